"""Commands that read the log: they find what was lost, begin nothing and write nothing; on real servers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis

from streams.channel import Channel, parse_channel
from streams.envelope import Actor, Draft
from streams.redis.keys import Keys
from streams.redis.log import Log
from support.redis_server import RedisServer
from support.replica import replicated

CommandLine = Callable[..., tuple[int, str, str]]
READS = (
    ("replay", "conversation:a"),
    ("state", "conversation:a"),
    ("audit", "verify", "conversation:a"),
    ("key", "conversation:a"),
)
EVENTS = 5


@pytest.fixture
def channel(tenant: str) -> Channel:
    return parse_channel(tenant, "conversation:a")


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    """An operator's client."""
    with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def verify(command_line: CommandLine, redis_url: str, tenant: str) -> Callable[[], tuple[int, dict[str, object], str]]:
    """Runs `hub audit verify`: its exit code, report and errors."""

    def run() -> tuple[int, dict[str, object], str]:
        where = ("--tenant", tenant, "--redis", redis_url)
        code, out, err = command_line("audit", "verify", "conversation:a", *where)
        return code, json.loads(out), err

    return run


Verify = Callable[[], tuple[int, dict[str, object], str]]


def write(url: str, channel: Channel, events: int = EVENTS) -> list[str]:
    """Messages of Alice's; their ids."""

    async def append() -> list[str]:
        log = await Log.open(url)
        try:
            draft = Draft(channel, "chat.message", b'{"text":"hello"}', Actor("user", "alice"))
            return [(await log.append(draft)).id for _ in range(events)]
        finally:
            await log.close()

    return asyncio.run(append())


def look(url: str, channel: Channel) -> None:
    """Follows the channel as a node does."""

    async def once() -> None:
        log = await Log.open(url)
        try:
            await log.look(channel)
        finally:
            await log.close()

    asyncio.run(once())


def keys_of(redis: Redis, channel: Channel) -> tuple[str, str]:
    """The channel's stream and meta hash."""
    config = redis.hgetall("hub:config")
    names = Keys(int(config[b"partitions"]), config[b"tags"].decode().split()).of(channel)  # type: ignore[union-attr,index]
    return names.stream.decode(), names.meta.decode()


def test_verify_misses_a_deleted_stream_however_often_it_looks(
    verify: Verify, redis: Redis, redis_url: str, channel: Channel
) -> None:
    """`whole: true` was said of a stream that was deleted, and the look erased what told of it."""
    write(redis_url, channel)
    stream, meta = keys_of(redis, channel)
    redis.delete(stream)
    recorded = redis.hgetall(meta)

    for _ in range(2):
        code, report, err = verify()
        assert (code, report["whole"], report["first_bad_seq"]) == (1, False, 1)
        assert err.startswith("hub audit: conversation:a is not intact from seq 1")
    assert redis.hgetall(meta) == recorded


def test_verify_misses_the_newest_event(verify: Verify, redis: Redis, redis_url: str, channel: Channel) -> None:
    """The recorded seq is one above the last event."""
    ids = write(redis_url, channel)
    redis.xdel(keys_of(redis, channel)[0], ids[-1])

    code, report, _ = verify()

    assert (code, report["whole"], report["first_bad_seq"]) == (1, False, EVENTS)


def test_verify_misses_an_earlier_life(verify: Verify, redis: Redis, redis_url: str, channel: Channel) -> None:
    """A follower came after the stream was deleted, then more was written: the epoch tells it."""
    write(redis_url, channel)
    redis.delete(keys_of(redis, channel)[0])
    look(redis_url, channel)
    write(redis_url, channel, 2)

    code, report, _ = verify()

    assert (code, report["events"], report["whole"], report["first_bad_seq"]) == (1, 2, False, 1)


def test_verify_misses_a_channel_that_only_the_directory_lists(
    verify: Verify, redis: Redis, redis_url: str, channel: Channel
) -> None:
    """Stream and record were deleted together."""
    write(redis_url, channel)
    redis.delete(*keys_of(redis, channel))

    code, report, _ = verify()

    assert (code, report["whole"], report["first_bad_seq"]) == (1, False, 1)


def test_verify_takes_trimmed_channels_for_whole_and_says_what_it_covers(
    verify: Verify, redis: Redis, redis_url: str, channel: Channel
) -> None:
    """The recorded floor accounts for what is gone, be it all."""
    ids = write(redis_url, channel)

    async def trim(upto: str) -> None:
        log = await Log.open(redis_url)
        try:
            await log.replay.trim(channel, upto)
        finally:
            await log.close()

    for upto, left in ((ids[1], 3), (ids[-1], 0)):
        asyncio.run(trim(upto))
        code, report, _ = verify()
        assert (code, report["events"], report["whole"], report["to_seq"]) == (0, left, True, EVENTS)
    assert "not an id changed so that the order stays" in str(report["covers"])


@pytest.mark.parametrize("command", READS, ids=lambda command: command[0])
def test_a_mistyped_channel_is_told(
    command_line: CommandLine, redis: Redis, redis_url: str, channel: Channel, command: tuple[str, ...]
) -> None:
    """Nothing is printed, and no key is left."""
    write(redis_url, channel)
    before = redis.dbsize()

    *rest, name = command
    code, out, err = command_line(*rest, f"{name}x", "--tenant", channel.tenant, "--redis", redis_url)

    assert (code, out, err) == (
        1,
        "",
        f"hub {command[0]}: no such channel: conversation:ax of tenant {channel.tenant}\n",
    )
    assert redis.dbsize() == before


@pytest.mark.parametrize(
    "command",
    [
        *((*read, "--tenant", "acme") for read in READS),
        ("parked",),
        ("parked", "retry", "all"),
        ("channels",),
        ("watch",),
    ],
)
def test_where_no_log_is_none_is_begun(
    command_line: CommandLine, lone_redis: RedisServer, tmp_path: Path, command: tuple[str, ...]
) -> None:
    """No folder, no server, no key: a sentence that says where the command looked."""
    folder = tmp_path / "new"

    code, out, err = command_line(*command, "--data", str(folder))
    assert (code, out) == (1, "")
    assert f"no log here (looked in {folder})" in err
    assert not folder.exists()

    code, out, err = command_line(*command, "--redis", lone_redis.url)
    assert (code, out) == (1, "")
    assert f"no log here (looked in {lone_redis.url})" in err
    with Redis.from_url(lone_redis.url) as client:
        assert client.dbsize() == 0


def test_doctor_begins_no_data(command_line: CommandLine, tmp_path: Path) -> None:
    """It warns that there is no log yet, which keeps no node from starting."""
    code, out, _ = command_line("doctor", "--data", str(tmp_path / "new"), "--url", "http://127.0.0.1:1")

    findings = {finding["what"]: finding for finding in map(json.loads, out.splitlines())}
    assert (code, findings["redis"]["level"]) == (0, "warn")
    assert not (tmp_path / "new").exists()


def test_a_user_who_may_only_read_is_enough(
    command_line: CommandLine, lone_redis: RedisServer, channel: Channel
) -> None:
    """Each command works with the ACL categories read and connection."""
    write(lone_redis.url, channel)
    with Redis.from_url(lone_redis.url) as client:
        client.execute_command("ACL", "SETUSER", "auditor", "on", ">secret", "~*", "+@read", "+@connection")
    url = lone_redis.url.replace("unix://", "unix://auditor:secret@")

    for command in (*((*read, "--tenant", channel.tenant) for read in READS), ("parked",)):
        code, _, err = command_line(*command, "--redis", url)
        assert (code, err) == (0, ""), (command, err)


async def test_a_replica_is_enough(command_line: CommandLine, channel: Channel) -> None:
    """A replica takes no writes, and no script that might write."""
    async with replicated() as pair:
        await asyncio.to_thread(write, pair.master.url, channel)
        await pair.catch_up()

        for command in (*((*read, "--tenant", channel.tenant) for read in READS), ("parked",)):
            code, _, err = await asyncio.to_thread(command_line, *command, "--redis", pair.replica.url)
            assert (code, err) == (0, ""), (command, err)
