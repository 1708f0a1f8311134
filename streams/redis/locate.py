"""Finds the server that REDIS_URL stands for, each time a connection is opened: by Sentinels, or by the slots of a Cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import hiredis

from streams.errors import ConfigurationRefused, LogUnavailable
from streams.redis.keys import SLOTS
from streams.redis.places import Form, Host, RedisPlace, parse_place
from streams.redis.wire import Argument, Reply, Wire, open_wire

_ASK_TIMEOUT_S: Final = 1.0
"""Longest wait for the answer of a Sentinel, or of a server that is asked for the map."""


class SlotRange(NamedTuple):
    """A range of slots of a Cluster, and the servers that hold them.

    Attributes:
        url: the primary.
        replicas: the URLs of its replicas.
    """

    first: int
    last: int
    url: str
    replicas: tuple[str, ...] = ()


class SlotMap(NamedTuple):
    """The slots of a Cluster, as one of its servers sees them.

    Attributes:
        ranges: the slots that are served, from slot 0 upwards.
        is_ok: true if that server regards the Cluster as working.
    """

    ranges: tuple[SlotRange, ...]
    is_ok: bool

    def url_of(self, slot: int) -> str | None:
        """The primary that holds a slot; None if nobody does."""
        return next((held.url for held in self.ranges if held.first <= slot <= held.last), None)

    @property
    def missing(self) -> int:
        """Number of slots that nobody holds."""
        return SLOTS - sum(held.last - held.first + 1 for held in self.ranges)


class Locator:
    """Finds servers by slot. Without a Cluster there is one server, which holds every slot.

    Args:
        url: REDIS_URL.

    Raises:
        ConfigurationRefused: the URL is invalid.
    """

    def __init__(self, url: str) -> None:
        try:
            self._place: RedisPlace = parse_place(url)
        except ValueError:  # the exception's text may contain part of the password
            raise ConfigurationRefused(
                "REDIS_URL must be a URL such as redis://host:6379/0, redis+sentinel://host:26379,host:26379/name "
                "or redis+cluster://host:6379,host:6379"
            ) from None
        self._known = list(self._place.seeds)

    @property
    def url(self) -> str:
        """REDIS_URL."""
        return self._place.url

    @property
    def is_cluster(self) -> bool:
        """True if the URL names a Cluster."""
        return self._place.form is Form.CLUSTER

    @property
    def sentinels(self) -> tuple[Host, ...]:
        """The Sentinels; empty if the URL names none."""
        return self._place.seeds if self._place.form is Form.SENTINEL else ()

    @property
    def place(self) -> RedisPlace:
        """The parsed URL."""
        return self._place

    async def open(self, name: str, slot: int = 0) -> Wire:
        """Open a connection to the server that holds a slot.

        Raises:
            LogUnavailable: no such server is known, or it could not be reached.
        """
        return await open_wire(await self.url_of(slot), name)

    async def url_of(self, slot: int = 0) -> str:
        """The URL of the server that holds a slot, as it is now.

        Raises:
            LogUnavailable: no Sentinel and no server of the Cluster knows one.
        """
        if self._place.form is Form.ONE:
            return self._place.url
        if self._place.form is Form.SENTINEL:
            return await self._ask_sentinels()
        url = (await self.read_map()).url_of(slot)
        if url is None:
            raise LogUnavailable(f"no server of the Cluster holds slot {slot} now")
        return url

    async def read_map(self) -> SlotMap:
        """Read the map of a Cluster from a server that regards the Cluster as working, otherwise from any that answers.

        Raises:
            LogUnavailable: none of the known servers answers.
            ConfigurationRefused: one of them does not belong to a Cluster.
        """
        failure: Exception | None = None
        doubtful: SlotMap | None = None
        for host in list(self._known):
            try:
                found = await self._ask_map(host)
            except LogUnavailable as error:
                failure = error
            else:
                if found.is_ok:
                    return found
                doubtful = doubtful or found
            self._ask_last(host)
        if doubtful is None:
            raise LogUnavailable(f"no server of the Cluster answers; the last one: {failure}")
        return doubtful

    async def _ask_map(self, host: Host) -> SlotMap:
        rows, info = await self._ask(self._place.url_of(host), ("CLUSTER", "SLOTS"), ("CLUSTER", "INFO"))
        found: list[SlotRange] = []
        members: list[Host] = []
        for first, last, *servers in sorted(rows):
            hosts = [Host((name or host.name.encode()).decode(), int(port)) for name, port, *_ in servers]
            found.append(SlotRange(int(first), int(last), *self._urls(hosts)))
            members += hosts
        if is_ok := b"cluster_state:ok" in info:
            self._known = list(dict.fromkeys((host, *members, *self._place.seeds)))
        return SlotMap(tuple(found), is_ok)

    def _urls(self, hosts: Sequence[Host]) -> tuple[str, tuple[str, ...]]:
        first, *others = (self._place.url_of(host) for host in hosts)
        return first, tuple(others)

    async def _ask_sentinels(self) -> str:
        failure = f"the Sentinels know no server named {self._place.name}"
        for host in list(self._known):
            try:
                (found,) = await self._ask(
                    self._place.sentinel_url(host), ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._place.name)
                )
            except LogUnavailable as error:
                failure = f"no Sentinel answers; the last one: {error}"
            else:
                if found is not None:
                    return self._place.url_of(Host(found[0].decode(), int(found[1])))
            self._ask_last(host)
        raise LogUnavailable(failure)

    def _ask_last(self, host: Host) -> None:
        self._known.remove(host)
        self._known.append(host)

    async def _ask(self, url: str, *commands: Sequence[Argument]) -> list[Reply]:
        wire = await open_wire(url, "hub-locator", _ASK_TIMEOUT_S)
        try:
            replies = await wire.call_all(commands, timeout_s=_ASK_TIMEOUT_S)
        finally:
            wire.abort()
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError) and "cluster support disabled" in str(reply):
                raise ConfigurationRefused(
                    "this Redis does not belong to a Cluster: write redis://host:6379, without `+cluster`"
                )
            if isinstance(reply, hiredis.ReplyError):
                raise LogUnavailable(f"it refuses to tell: {reply}")
        return replies
