"""Proofs of events, checked with keys alone; and a witness that refuses a log that was forked or rolled back."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from streams.archive.notes import Signer, read_checkpoint
from streams.channel import Channel, parse_channel
from streams.envelope import Entry
from streams.redis.log import Log
from support.archive_rig import SIGNER, keeper, write
from support.redis_server import RedisServer

CommandLine = Callable[..., tuple[int, str, str]]


@pytest.fixture
def redis_url(lone_redis: RedisServer) -> str:
    return lone_redis.url


@pytest.fixture
def channel(tenant: str) -> Channel:
    return parse_channel(tenant, "conversation:a")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "audit.key").write_text(str(SIGNER))
    return tmp_path


@pytest.fixture
def grow(redis_url: str, channel: Channel, data: Path) -> Callable[[int], list[Entry]]:
    """Appends events and lets a keeper archive them; all events that Redis had before."""

    async def once(count: int) -> list[Entry]:
        log = await Log.open(redis_url)
        await write(log, channel, count)
        found = await log.page(channel)
        await keeper(log, data / "archive").turn()
        await log.close()
        return found

    def run(count: int) -> list[Entry]:
        work: Coroutine[Any, Any, list[Entry]] = once(count)
        return asyncio.run(work)

    return run


def test_a_proof_is_checked_with_keys_alone(
    command_line: CommandLine,
    grow: Callable[[int], list[Entry]],
    channel: Channel,
    redis_url: str,
    data: Path,
    tmp_path: Path,
) -> None:
    """Of an archived event; it is small, quick to check, and worth nothing for other bytes or without the key."""
    history = grow(300)
    wanted = history[100]
    where = ("--tenant", channel.tenant, "--redis", redis_url, "--data", str(data))
    code, out, _ = command_line("audit", "prove", channel.wire, wanted.id.decode(), *where)
    proof, event, forged = tmp_path / "proof", tmp_path / "event", tmp_path / "forged"
    proof.write_text(out)
    event.write_bytes(wanted.wire(channel.wire.encode()) + b"\n")
    forged.write_bytes(event.read_bytes().replace(b"hello", b"hullo"))
    _, key, _ = command_line("audit", "key", "--data", str(data))

    began = time.process_time()
    checked = command_line("audit", "check", str(proof), "--event", str(event), "--key", key)
    assert time.process_time() - began < 1
    assert (code, checked[0]) == (0, 0)
    assert checked[1].startswith(
        f"event 101 of {channel.path} is under the checkpoint of hub.test/{channel.tenant} with 1 heads"
    )
    assert len(out) <= 2_048
    assert command_line("audit", "check", str(proof), "--event", str(forged), "--key", key)[0] == 1
    other = str(Signer("hub.test", bytes(32)).public)
    code, _, err = command_line("audit", "check", str(proof), "--event", str(event), "--key", other)
    assert (code, "no known key has signed it" in err) == (1, True)
    proof.write_text(out.replace('"seq":101', '"seq":102'))
    assert "not event 102" in command_line("audit", "check", str(proof), "--event", str(event), "--key", key)[2]


def test_a_witness_cosigns_what_continues_and_refuses_the_rest(
    command_line: CommandLine,
    grow: Callable[[int], list[Entry]],
    channel: Channel,
    data: Path,
    tmp_path: Path,
    redis_url: str,
) -> None:
    """Grown: cosigned. Rolled back, or written anew with the hub's own key: refused, for ever."""
    folder, kept = tmp_path / "witness", tmp_path / "kept"
    where = (
        "--tenant",
        channel.tenant,
        "--data",
        str(data),
        "--folder",
        str(folder),
        "--key",
        str(SIGNER.public),
        "--once",
    )
    for heads in (1, 2):
        grow(20)
        code, out, _ = command_line("witness", *where)
        assert (code, out) == (0, f"cosigned hub.test/{channel.tenant} with {heads} heads\n")
    assert command_line("witness", *where)[:2] == (0, "")
    cosigned = folder / channel.tenant / "newest"
    verify = ("audit", "verify", channel.wire, "--tenant", channel.tenant, "--redis", redis_url, "--data", str(data))
    assert command_line(*verify, "--known", str(cosigned))[0] == 0

    record = cosigned.read_bytes()
    for damaged, said in (
        (None, "is gone, but 2 checkpoints were cosigned"),
        (b"x", "is not what this witness has written"),
    ):
        cosigned.unlink() if damaged is None else cosigned.write_bytes(damaged)
        code, _, err = command_line("witness", *where)
        assert (code, said in err) == (1, True)
    cosigned.write_bytes(record)

    log_folder = data / "archive" / "objects" / channel.tenant / "log"
    shutil.copytree(log_folder, kept)
    (part,) = (one for one in (log_folder / "checkpoint" / "000000000002").iterdir() if one.suffix != ".json")
    signed = part.read_bytes()
    dated = read_checkpoint(signed)
    for by_s in (-60, 60):
        part.write_bytes(dated._replace(extra=(f"time {dated.time_s + by_s}",)).signed(SIGNER))
        code, _, err = command_line("witness", *where)
        assert (code, "a clock was set back, or the checkpoint was written anew" in err) == (1, True)
    part.write_bytes(signed)
    shutil.rmtree(log_folder / "checkpoint" / "000000000002")
    code, _, err = command_line("witness", *where)
    assert (code, "the log was rolled back: it has 1 heads, 2 were cosigned" in err) == (1, True)

    shutil.rmtree(data / "archive")
    asyncio.run(_begin_anew(redis_url, channel))
    for _ in range(3):
        grow(30)
    code, _, err = command_line("witness", *where)
    assert (code, "the log was forked: its first 2 heads are not the cosigned ones" in err) == (1, True)
    code, out, err = command_line(*verify, "--known", str(cosigned))
    assert code == 1
    assert any(
        "the checkpoint that was kept elsewhere does not fit the log" in fault for fault in json.loads(out)["faults"]
    )


async def _begin_anew(redis_url: str, channel: Channel) -> None:
    """Everything in Redis about the channel is taken away."""
    log = await Log.open(redis_url)
    keys = log.keys.of(channel)
    await log.calls_of(channel).call("DEL", keys.stream, keys.meta)
    await log.close()
