"""Auditing what was deleted: with Redis, with an archive alone, after a restore. Nothing that is gone is called whole."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from hub.storage.local import LocalStore
from ops.cli.deleting import ChannelDeleter
from ops.cli.keeping import OwnArchive
from streams.archive.cold import ColdReader
from streams.archive.retention import parse_retention
from streams.channel import Channel, parse_channel
from streams.records.deletions import deletions_of
from streams.redis.log import Log
from support.archive_rig import SIGNER, archive_in, keeper, write
from support.redis_server import RedisServer

CommandLine = Callable[..., tuple[int, str, str]]
Hub = Callable[..., tuple[int, list[dict[str, Any]], str]]
POLICY = "*=hot_count:10"
TOLD = "conversation:a was deleted by carol at "


@pytest.fixture(scope="module")
def redis_url(module_redis: RedisServer) -> str:
    return module_redis.url


@pytest.fixture
def hub(
    command_line: CommandLine, redis_url: str, data: Path, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> CommandLine:
    """Runs `hub ARGS` on the data folder with the retention of the hub, on this server or on the one at `at`."""
    monkeypatch.setenv("HUB_RETENTION", POLICY)
    (data / "audit.key").write_text(str(SIGNER))

    def run(*arguments: str, at: str = redis_url) -> tuple[int, str, str]:
        where = () if "--archive-only" in arguments else ("--redis", at)
        return command_line(*arguments, "--tenant", tenant, "--data", str(data), *where)

    return run


@pytest.fixture
async def restored(lone_redis: RedisServer, data: Path) -> AsyncIterator[Log]:
    """The log on an empty server."""
    cold = ColdReader(archive_in(data / "archive"))
    log = await Log.open(lone_redis.url, cold=cold)
    yield log
    await log.close()
    await cold.close()


def deleter(log: Log, data: Path, *, has_archive: bool = True, purges: bool = False) -> ChannelDeleter:
    archive = OwnArchive(archive_in(data / "archive"), parse_retention(POLICY), SIGNER) if has_archive else None
    files = LocalStore(data / "files", lambda: 0.0)
    return ChannelDeleter(
        log, files, archive, "carol", archives=has_archive and not purges, purges=purges, sweep_after_ms=1
    )


async def archived_channel(log: Log, data: Path, tenant: str, name: str = "a") -> Channel:
    """A channel of 45 events, 30 of them in the archive before the others were written."""
    place = parse_channel(tenant, f"conversation:{name}")
    await write(log, place, 40)
    await keeper(log, data / "archive", f"{tenant}/*=hot_count:10").turn()
    await write(log, place, 5)
    return place


async def lose(log: Log, channel: Channel) -> None:
    """Redis loses a channel."""
    keys = log.keys.of(channel)
    await log.calls_of(channel).call("DEL", keys.stream, keys.meta)


@pytest.mark.parametrize("purges", [False, True])
async def test_an_archive_alone_tells_that_a_channel_was_deleted(
    log: Log, hub: CommandLine, data: Path, tenant: str, tmp_path: Path, *, purges: bool
) -> None:
    """Verification, report, list and export: by whom and when, what is left of it, and up to when that is known."""
    place = await archived_channel(log, data, tenant)
    await deleter(log, data, purges=purges).delete(place)
    left = 0 if purges else 45

    code, out, _ = await asyncio.to_thread(hub, "audit", "verify", place.wire, "--archive-only")
    found = json.loads(out)
    assert (code, found["whole"], found["faults"], found["events"]) == (0, False, [], left)
    assert (found["deleted"]["by"], found["deleted"]["to_seq"]) == ("carol", 45)
    assert (found["deletions"]["records"], found["deletions"]["unread"]) == (1, 0)
    assert found["deletions"]["known_until"].startswith("20")
    assert "not what was written or deleted after the newest checkpoint" in found["covers"]

    page, history = tmp_path / "report.html", tmp_path / "history"
    report = await asyncio.to_thread(hub, "audit", "report", place.wire, "-o", str(page), "--archive-only")
    assert (report[0], f"It is not all: {TOLD}" in report[1], "intact" in page.read_text()) == (0, True, False)
    assert "1 deletion is on record there" in page.read_text()

    _, out, _ = await asyncio.to_thread(hub, "audit", "channels", "--archive-only")
    listed = {one["channel"]: one.get("deleted", {}) for one in map(json.loads, out.splitlines())}
    assert (listed[place.wire]["by"], listed["system:deletions"]) == ("carol", {})

    code, out, err = await asyncio.to_thread(hub, "audit", "export", place.wire, "-o", str(history), "--archive-only")
    assert (code, json.loads(out)["whole"], json.loads(out)["deleted"]) == (1, False, 1)
    assert TOLD in err.splitlines()[0]
    assert len(history.read_text().splitlines()) == left


@pytest.mark.parametrize("is_gone", [False, True])
async def test_an_archive_alone_tells_what_it_cannot_know_of_deletions(
    log: Log, hub: CommandLine, data: Path, tenant: str, *, is_gone: bool
) -> None:
    """Records that are not archived, or that somebody removed: no channel is called whole."""
    place, gone = await archived_channel(log, data, tenant), parse_channel(tenant, "conversation:gone")
    await write(log, gone, 3)
    await asyncio.to_thread(hub, "archive", place.wire)
    code, out, err = await asyncio.to_thread(hub, "audit", "verify", place.wire, "--archive-only")
    assert (code, err, json.loads(out)["whole"], json.loads(out)["unknown"]) == (0, "", True, [])

    await deleter(log, data, has_archive=is_gone).delete(gone)
    await keeper(log, data / "archive", f"{tenant}/*=hot_count:10").turn()
    if is_gone:
        shutil.rmtree(next((data / "archive").glob(f"**/{tenant}/system:deletions/*/segment")))

    code, out, err = await asyncio.to_thread(hub, "audit", "verify", place.wire, "--archive-only")

    found = json.loads(out)
    assert (code, found["whole"], found["deletions"]["unread"]) == (int(is_gone), False, 1)
    report = ("audit", "report", place.wire, "-o", str(data / "report.html"), "--archive-only")
    code, out, err_of_report = await asyncio.to_thread(hub, *report)
    assert (code, "a channel may have been deleted" in out + err_of_report) == (int(is_gone), not is_gone)
    told = (
        "the records of deletions cannot all be read"
        if is_gone
        else "records of deletions that are not in the archive: 1"
    )
    assert told in err


async def test_a_deleted_channel_is_neither_replayed_nor_exported_as_if_it_were_empty(
    log: Log, hub: CommandLine, redis_url: str, lone_redis: RedisServer, data: Path, tenant: str, tmp_path: Path
) -> None:
    """Both say when, by whom and how many events, and end with 1; also on a Redis that was restored since."""
    place, history = await archived_channel(log, data, tenant), tmp_path / "history"
    ids = [entry.id.decode() for entry in await log.page(place)]
    await deleter(log, data).delete(place)
    export = ("audit", "export", "-o", str(history))

    assert (await asyncio.to_thread(hub, "restore", at=lone_redis.url))[0] == 0

    for url in (redis_url, lone_redis.url):
        code, out, err = await asyncio.to_thread(hub, "replay", place.wire, at=url)
        assert (code, out, err.splitlines()[-1].startswith(f"hub replay: {TOLD}")) == (1, "", True)
        assert err.endswith(", after event 45\n")
        for command in (("state", place.wire), ("audit", "prove", place.wire, ids[3])):
            code, out, err = await asyncio.to_thread(hub, *command, at=url)
            assert (code, out, TOLD in err) == (1, "", True), err
        code, out, err = await asyncio.to_thread(hub, *export, place.wire, at=url)
        assert (code, json.loads(out)["whole"], TOLD in err, ", after event 45" in err) == (1, False, True, True)
        code, out, err = await asyncio.to_thread(hub, *export, "--all", at=url)
        found = json.loads(out)
        assert (code, found["whole"], found["deleted"], TOLD in err) == (0, False, 1, True)
        _, out, _ = await asyncio.to_thread(hub, "audit", "channels", at=url)
        listed = {one["channel"]: one for one in map(json.loads, out.splitlines())}
        assert (listed[place.wire]["deleted"]["to_seq"], "fault" in listed[place.wire]) == (45, False)

    await write(log, place, 2)
    code, out, err = await asyncio.to_thread(hub, "replay", place.wire)
    assert (code, len(out.splitlines()), "an earlier history of this name was deleted by carol" in err) == (0, 2, True)


async def test_a_deletion_on_record_in_a_former_life_is_no_fault(
    log: Log, restored: Log, hub: CommandLine, lone_redis: RedisServer, data: Path, tenant: str
) -> None:
    """Redis lost the records, which are in the archive; and the name is used again on a restored Redis, which has no mark."""
    place = await archived_channel(log, data, tenant)
    await deleter(log, data).delete(place)
    await lose(log, deletions_of(tenant))

    code, out, err = await asyncio.to_thread(hub, "audit", "verify", place.wire)
    assert (code, err, json.loads(out)["deleted"]["to_seq"]) == (0, "", 45)

    assert (await asyncio.to_thread(hub, "restore", at=lone_redis.url))[0] == 0
    await write(restored, place, 2)
    code, out, err = await asyncio.to_thread(hub, "audit", "verify", place.wire, at=lone_redis.url)
    assert (code, err, json.loads(out)["whole"], json.loads(out)["events"]) == (0, "", True, 2)


async def test_records_of_deletions_are_read_once_for_all_channels(
    log: Log, restored: Log, hub: CommandLine, lone_redis: RedisServer, data: Path, tenant: str
) -> None:
    """After a restore no deleted channel has a mark in Redis. The audit of all is not slower with the square of their number."""
    places = [parse_channel(tenant, f"conversation:c{number}") for number in range(10)]
    for place in places:
        await write(log, place, 1)
    assert [one["events"] async for one in deleter(log, data).delete_several(places)] == [1] * 10
    assert (await asyncio.to_thread(hub, "restore", at=lone_redis.url))[0] == 0

    before = await reads(restored)
    code, out, err = await asyncio.to_thread(hub, "audit", "verify", "--all", at=lone_redis.url)

    found = [json.loads(line) for line in out.splitlines()]
    assert (code, err, [one["deleted"]["to_seq"] for one in found[:-1]]) == (0, "", [1] * 10)
    assert await reads(restored) - before < 8


async def reads(log: Log) -> int:
    """Number of XRANGE calls so far."""
    stats = await log.redis.info("commandstats")
    return int(stats["cmdstat_xrange"]["calls"]) if "cmdstat_xrange" in stats else 0
