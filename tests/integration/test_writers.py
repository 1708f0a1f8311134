"""Operators' commands that write hold a lease: two that exclude each other do not run at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from redis.asyncio import Redis

from hub.storage.choice import make_key
from streams.errors import WriterExcluded
from streams.records.writers import EVERYTHING, NO_TENANT, Writer, holding
from streams.redis.keys import WRITERS
from streams.redis.log import Log
from support.archive_rig import write
from support.redis_server import RedisServer
from support.run_rig import conversation, wait_until

CommandLine = Callable[..., tuple[int, str, str]]
QUICK_MS = 300
BY = "root on host-a, process 1, since 2026-11-27 12:00:00 UTC"
DELETE = Writer("acme", True, "hub delete", BY)


@pytest.fixture
async def redis(lone_redis: RedisServer) -> AsyncIterator[Redis]:
    async with Redis.from_url(lone_redis.url, decode_responses=True) as redis:
        yield redis


CASES = (
    (Writer("acme", True, "hub archive", "b"), True),
    (Writer("acme", False, "hub import", "b"), True),
    (Writer(EVERYTHING, True, "hub repartition", "b"), True),
    (Writer("beta", True, "hub delete", "b"), False),
    (Writer(NO_TENANT, False, "hub parked retry", "b"), False),
)
"""A command, and if `DELETE` and it exclude each other."""


async def test_who_excludes_whom(lone_redis: RedisServer, redis: Redis) -> None:
    """One alone in a tenant, everything else in that tenant, and what moves all keys, in either order; the lease is given back."""
    for first, second, is_excluded in [
        (one, two, is_so) for other, is_so in CASES for one, two in ((DELETE, other), (other, DELETE))
    ]:
        async with holding(lone_redis.url, first):
            if is_excluded:
                with pytest.raises(WriterExcluded, match=f"`{first.name}`.* by {first.by}: wait for its end"):
                    async with holding(lone_redis.url, second):
                        pass
            else:
                async with holding(lone_redis.url, second):
                    assert set(await redis.zrange(WRITERS, 0, -1)) == {str(first), str(second)}
        assert not await redis.exists(WRITERS)


async def test_imports_run_beside_each_other_but_not_beside_a_repartition(lone_redis: RedisServer) -> None:
    """They concern channels of their own; a repartition moves the keys of all."""
    async with holding(lone_redis.url, Writer("acme", False, "hub import", "a")):
        async with holding(lone_redis.url, Writer("acme", False, "hub import", "b")):
            pass
        with pytest.raises(WriterExcluded, match="`hub import` of tenant acme runs, by a"):
            async with holding(lone_redis.url, Writer(EVERYTHING, True, "hub repartition", "b")):
                pass


async def test_a_lease_is_renewed_and_ends_by_itself(lone_redis: RedisServer, redis: Redis) -> None:
    """As long as its command runs; one that was killed leaves nothing behind."""
    async with holding(lone_redis.url, DELETE, QUICK_MS):
        first = await redis.zscore(WRITERS, str(DELETE))
        await wait_until(lambda: _is_later(redis, first))
        assert 0 < await redis.pttl(WRITERS) <= QUICK_MS
        await redis.copy(WRITERS, "copy")  # of a process that dies here; with its expiry
    await redis.rename("copy", WRITERS)
    await wait_until(lambda: _is_gone(redis))


async def _is_later(redis: Redis, first: float | None) -> bool:
    return (await redis.zscore(WRITERS, str(DELETE)) or 0) > (first or 0)


async def _is_gone(redis: Redis) -> bool:
    return not await redis.exists(WRITERS)


async def test_a_command_whose_place_was_taken_ends(lone_redis: RedisServer, redis: Redis) -> None:
    """Its process was stopped for longer than its lease, and another one has begun meanwhile."""
    other = Writer(EVERYTHING, True, "hub repartition", BY)

    async def run() -> None:
        async with holding(lone_redis.url, DELETE, QUICK_MS):
            async with redis.pipeline(transaction=True) as both:
                await both.delete(WRITERS).zadd(WRITERS, {str(other): 1e15}).execute()
            await asyncio.Event().wait()

    with pytest.raises(WriterExcluded, match="`hub repartition` runs"):
        await run()
    assert await redis.zrange(WRITERS, 0, -1) == [str(other)]


async def test_a_command_whose_lease_has_ended_ends(lone_redis: RedisServer, redis: Redis) -> None:
    """Its process was stopped for longer than its lease: a repartition may have begun and ended meanwhile, and moved all keys."""

    async def run() -> None:
        async with holding(lone_redis.url, DELETE, QUICK_MS):
            await redis.delete(WRITERS)
            async with asyncio.timeout(60):
                await asyncio.Event().wait()

    with pytest.raises(WriterExcluded, match="the lease of `hub delete` has ended"):
        await run()
    assert not await redis.exists(WRITERS)


@pytest.mark.parametrize("arguments", [
    ("archive", "--all", "--tenant", "acme"),
    ("delete", "--all", "--tenant", "acme", "--yes", "--without-archive"),
    ("import", "irc", "{irc}", "--channel", "conversation:irc", "--tenant", "acme"),
    ("parked", "retry", "all"),
    ("repartition", "16"),
], ids=lambda arguments: arguments[0])  # fmt: skip # a case a row
async def test_a_command_is_refused_with_who_runs(
    lone_redis: RedisServer,
    redis: Redis,
    command_line: CommandLine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
) -> None:
    """In one line, before it has changed anything; afterwards it runs."""
    make_key(tmp_path / "audit.key", "hub")
    monkeypatch.setenv("HUB_RETENTION", "*=hot_count:10")
    log = await Log.open(lone_redis.url)
    await write(log, conversation("acme"), 1)
    await log.close()
    irc = tmp_path / "2026-11-27.txt"
    irc.write_text("[04:59] <ra> hello\n")
    words = [word.format(irc=irc) for word in arguments]
    other = str(Writer(EVERYTHING, True, "hub repartition", BY))
    await redis.zadd(WRITERS, {other: 1e15})
    before = sorted(await redis.keys())

    where = ("--redis", lone_redis.url, "--data", str(tmp_path))
    code, _, told = await asyncio.to_thread(command_line, *words, *where)

    assert (code, told.count("\n")) == (1, 1)
    assert f"`hub repartition` runs, by {BY}: wait for its end" in told
    assert sorted(await redis.keys()) == before
    await redis.delete(WRITERS)
    code, *told_then = await asyncio.to_thread(command_line, *words, *where)
    assert code == 0, told_then
    assert not await redis.exists(WRITERS)
