"""A log whose keys have the form of an older version is refused with what to do; a first start is not taken for one."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from ops.cli.findings import Level
from ops.cli.redis_checks import check_redis
from streams.errors import ConfigurationRefused
from streams.redis.keys import CONFIG
from streams.redis.log import Log
from streams.redis.stored import StoredLog
from support.redis_server import RedisServer

AT_ONCE = 12
WHAT_TO_DO = "an older version began the log .* go on with that version, or name an empty Redis in REDIS_URL"


async def test_a_log_of_an_older_version_is_refused_and_left_alone(lone_redis: RedisServer) -> None:
    """Its configuration has no hash tags: nodes, commands that read, and `hub doctor` say so, and nothing is written."""
    async with Redis.from_url(lone_redis.url) as redis:
        await redis.hset(CONFIG, mapping={"partitions": 8, "life": "0123456789abcdef"})
        before = await redis.hgetall(CONFIG)
        for opening in (Log.open(lone_redis.url), StoredLog.open(lone_redis.url)):
            with pytest.raises(ConfigurationRefused, match=WHAT_TO_DO):
                await opening
        (finding,) = await check_redis(lone_redis.url, None)
        assert await redis.hgetall(CONFIG) == before
        assert await redis.keys() == [CONFIG.encode()]

    assert finding.level is Level.FAIL
    assert "an older version began the log" in finding.text


async def test_nodes_that_start_a_log_at_once_do_not_refuse_each_other(lone_redis: RedisServer) -> None:
    """Partitions and tags are written together, so that nobody sees one without the other."""
    logs = await asyncio.gather(*(Log.open(lone_redis.url) for _ in range(AT_ONCE)))
    async with Redis.from_url(lone_redis.url) as redis:
        kept = await redis.hgetall(CONFIG)
    for log in logs:
        await log.close()

    assert set(kept) == {b"partitions", b"tags", b"life"}
    assert len(kept[b"tags"].split()) == int(kept[b"partitions"])
