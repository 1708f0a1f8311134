"""redis-py clients of the servers that a REDIS_URL stands for, and their errors as ours; the job queue needs one.

Not compiled: an error raised from another one in a compiled generator loses its cause.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.connection import SSLConnection, parse_url
from redis.asyncio.sentinel import Sentinel
from redis.exceptions import RedisError

from streams.redis.calls import CALL_TIMEOUT_S, in_our_words
from streams.redis.places import Form, RedisPlace

_CONNECT_TIMEOUT_S: Final = 2.0


def open_client(place: RedisPlace) -> Redis:
    """A client that connects on first use, and that follows a failover by Sentinels, or the slots of a Cluster.

    For a Cluster it is a `RedisCluster`, which has the same commands.
    """
    url = place.url if place.form is Form.ONE else place.url_of(place.seeds[0])
    options: dict[str, Any] = {
        "socket_timeout": CALL_TIMEOUT_S,
        "socket_connect_timeout": _CONNECT_TIMEOUT_S,
        "health_check_interval": 15,
    }
    if not url.startswith("unix:"):  # redis-py refuses it on a unix socket
        options["socket_keepalive"] = True
    if place.form is Form.CLUSTER:
        return cast("Redis", RedisCluster.from_url(url, **options))
    if place.form is Form.ONE:
        one: Redis = Redis.from_url(url, **options)
        return one
    of_sentinels = _without_address(place.sentinel_url(place.seeds[0])) | options
    sentinels = Sentinel([*place.seeds], sentinel_kwargs=of_sentinels)  # type: ignore[no-untyped-call]  # redis-py left it bare
    found: Redis = sentinels.master_for(place.name, **(_without_address(url) | options))
    return found


@contextmanager
def in_our_errors() -> Iterator[None]:
    """Translates the errors of these clients into ours.

    Raises:
        LogUnavailable: Redis is unreachable or refused the command.
    """
    try:
        yield
    except (RedisError, OSError) as error:
        raise in_our_words(error) from error


def _without_address(url: str) -> dict[str, Any]:
    """The options of a URL, for clients that take the address apart from them."""
    found: dict[str, Any] = dict(parse_url(url))
    kind = found.pop("connection_class", None)
    for placing in ("host", "port"):
        found.pop(placing, None)
    return found | ({"ssl": True} if kind is SSLConnection else {})
