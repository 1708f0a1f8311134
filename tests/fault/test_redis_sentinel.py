"""`redis+sentinel://`: a log on the server that real Sentinels name, through a failover."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import RedisError

from ops.children import end_with
from ops.embedded_redis.probe import free_port
from streams.channel import Channel, parse_channel
from streams.envelope import Actor, Draft
from streams.redis.log import Log
from support.appending import stored_at_last
from support.redis_server import RedisServer, server_binary
from support.replica import port_of
from support.tail_recorder import TailRecorder

pytestmark = pytest.mark.slow


def wait_for(port: int, is_so: Callable[[Any], object]) -> None:
    """Poll a server until it says so."""
    while True:
        try:
            with Redis(port=port, socket_timeout=2) as redis:
                if is_so(redis):
                    return
        except RedisError:
            continue


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[tuple[str, int, RedisServer, RedisServer]]:
    """A master and its replica, watched by one Sentinel: the URL, the Sentinel's port, the servers."""
    binary = server_binary("7")
    if binary is None:
        pytest.skip("no redis-server 7 here")
    master, replica = RedisServer(on_port=True, binary=binary), RedisServer(on_port=True, binary=binary)
    with Redis.from_url(master.url) as redis:
        redis.config_set("repl-diskless-sync-delay", "0")
    with Redis.from_url(replica.url) as redis:
        redis.replicaof("127.0.0.1", str(port_of(master)))
    port, config = free_port(), tmp_path / "sentinel.conf"
    config.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\nsentinel monitor main 127.0.0.1 {port_of(master)} 1\n"
        f"sentinel known-replica main 127.0.0.1 {port_of(replica)}\n"  # otherwise found within ten seconds
        "sentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 3000\n"
    )
    sentinel = subprocess.Popen(
        [binary, config, "--sentinel"],
        stdout=subprocess.DEVNULL,
        preexec_fn=end_with(os.getpid()),  # noqa: PLW1509 - it calls one function of libc, loaded before the fork
    )
    wait_for(port_of(replica), lambda redis: redis.info("replication").get("master_link_status") == "up")
    wait_for(port, lambda redis: redis.sentinel_slaves("main")[0]["is_slave"])
    yield f"redis+sentinel://127.0.0.1:1,127.0.0.1:{port}/main", port, master, replica
    sentinel.kill()
    sentinel.wait()
    replica.close()
    master.close()


async def test_a_promoted_server_is_found_and_the_former_one_left(
    watched: tuple[str, int, RedisServer, RedisServer], tenant: str
) -> None:
    """A Sentinel that is away is skipped; after the failover the same log is written and followed on the other server."""
    url, port, _, replica = watched
    log, channel = await Log.open(url), parse_channel(tenant, "conversation:1")
    seen = TailRecorder(log, channel)
    await seen.watch()
    try:
        for number in range(5):
            await log.append(Draft(channel, "chat.message", b'{"text":"x"}', Actor("user", "a"), command=f"c-{number}"))
        await asyncio.to_thread(wait_for, port_of(replica), lambda redis: redis.xlen(log.keys.of(channel).stream) == 5)
        with Redis(port=port) as sentinel:
            sentinel.execute_command("SENTINEL", "FAILOVER", "main")
        await asyncio.to_thread(wait_for, port_of(replica), lambda redis: redis.info("replication")["role"] == "master")
        last = Draft(channel, "chat.message", b'{"text":"y"}', Actor("user", "a"), command="last")
        while not (await stored_at_last(log, last)).is_duplicate or not _is_at(replica, log, channel):
            pass
        await seen.until(events=6)
    finally:
        await log.close()

    assert seen.seqs == [1, 2, 3, 4, 5, 6]


async def test_a_former_master_that_still_answers_is_left(
    watched: tuple[str, int, RedisServer, RedisServer], tenant: str
) -> None:
    """As one that is cut off from the Sentinels, but not from us: what they name is what is written."""
    url, port, former, replica = watched
    log, channel = await Log.open(url), parse_channel(tenant, "conversation:1")
    try:
        await log.append(Draft(channel, "chat.message", b'{"text":"x"}', Actor("user", "a"), command="first"))
        await asyncio.to_thread(wait_for, port_of(replica), lambda redis: redis.xlen(log.keys.of(channel).stream) == 1)
        with Redis.from_url(replica.url) as redis:
            redis.replicaof("NO", "ONE")
        with Redis(port=port) as sentinel:
            sentinel.sentinel_remove("main")
            sentinel.sentinel_monitor("main", "127.0.0.1", port_of(replica), 1)
        for number in itertools.count():
            draft = Draft(channel, "chat.message", b'{"text":"y"}', Actor("user", "a"), command=f"c-{number}")
            await stored_at_last(log, draft)
            with Redis.from_url(replica.url) as redis:
                if redis.xlen(log.keys.of(channel).stream) == 2:
                    break
    finally:
        await log.close()

    with Redis.from_url(former.url) as redis:
        assert redis.info("replication")["role"] == "master"


def _is_at(server: RedisServer, log: Log, channel: Channel) -> bool:
    with Redis.from_url(server.url) as redis:
        return redis.xlen(log.keys.of(channel).stream.decode()) == 6
