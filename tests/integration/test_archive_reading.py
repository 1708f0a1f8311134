"""One cursor for ever: every reader crosses from the archive into Redis without noticing; on sockets, HTTP and the command line."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from hub.storage.archive import StoreArchive
from hub.storage.choice import reading_archive
from streams.archive.cold import ColdReader
from streams.archive.objects import channel_folder
from streams.channel import Channel, parse_channel
from streams.cursor import START, Cursor, Gap, GapReason, Position, Resumable, judge
from streams.envelope import Entry
from streams.records.archive import ArchiveRecords
from streams.redis.log import Log
from support.archive_rig import archive_in, keeper, write
from support.nodes import Node, running_node, settings, token
from support.redis_server import RedisServer
from support.socket_client import client

CommandLine = Callable[..., tuple[int, str, str]]
EVENTS, KEPT = 1_300, 40


@pytest.fixture(scope="module")
def redis_url(module_redis: RedisServer) -> str:
    """A server of this file: the keeper goes through all channels there."""
    return module_redis.url


@pytest.fixture
def channel(tenant: str) -> Channel:
    return parse_channel(tenant, "conversation:a")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder; the archive of the server is in it."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture
async def cold_log(redis_url: str, data: Path) -> AsyncIterator[Log]:
    """A log that reads the archive."""
    cold = ColdReader(archive_in(data / "archive"))
    log = await Log.open(redis_url, cold=cold)
    yield log
    await log.close()
    await cold.close()


async def everything(log: Log, channel: Channel, after: str = START, upto: str = "+") -> list[Entry]:
    """All events after a cursor, page by page."""
    found: list[Entry] = []
    while page := await log.page(channel, found[-1].id.decode() if found else after, upto=upto):
        found += page
    return found


@pytest.fixture
async def history(cold_log: Log, channel: Channel, data: Path) -> list[Entry]:
    """A channel with most of its events in the archive; all of them as they were."""
    await write(cold_log, channel, EVENTS)
    before = await everything(cold_log, channel)
    await keeper(cold_log, data / "archive", f"*=hot_count:{KEPT}").turn()
    return before


async def test_pages_cross_both_ways_from_any_event(
    cold_log: Log, log: Log, channel: Channel, history: list[Entry]
) -> None:
    """The same events in the same order with the same bytes; a log without the archive has the newest alone."""
    assert len(await everything(log, channel)) == KEPT
    assert await everything(cold_log, channel) == history
    for at in (0, 1, 498, 499, 500, EVENTS - KEPT - 2, EVENTS - KEPT - 1, EVENTS - KEPT, EVENTS - 1):
        cursor = history[at].id.decode()
        assert await everything(cold_log, channel, cursor) == history[at + 1 :]
        assert (await cold_log.replay.page_from(channel, cursor, 3))[:1] == history[at : at + 1]
        assert await cold_log.entry(channel, cursor) == history[at]
    assert await everything(cold_log, channel, upto=history[700].id.decode()) == history[:701]
    back: list[Entry] = []
    while page := await cold_log.replay.page_back(channel, back[-1].id.decode() if back else "+"):
        back += page
    assert back[::-1] == history


async def test_pages_on_the_wire_cross_the_border(cold_log: Log, channel: Channel, history: list[Entry]) -> None:
    """The stored lines of the archive and the joined ones of Redis are the same bytes in a row, up to a fence."""
    for at, fence in ((-1, "+"), (498, "+"), (499, history[1_200].id.decode())):
        after, lines = history[at].id.decode() if at >= 0 else START, list[bytes]()
        while (page := await cold_log.replay.wire_page(channel, after, upto=fence)).read_count:
            assert page.first_seq == at + 2 + len(lines)
            lines += page.lines
            after = page.last_id
        last = EVENTS if fence == "+" else 1_201
        assert lines == [entry.wire(channel.wire.encode()) for entry in history[at + 1 : last]]


async def test_every_cursor_is_judged_as_if_nothing_had_been_trimmed(
    cold_log: Log, channel: Channel, history: list[Entry]
) -> None:
    """With seq and without; an unknown one is unknown."""
    look = await cold_log.look(channel)
    assert (look.floor, look.head.seq) == (Position(START, 0), EVENTS)
    for entry in (*history[::97], history[EVENTS - KEPT - 1], history[EVENTS - KEPT], history[-1]):
        cursor = entry.id.decode()
        seen = await cold_log.look(channel, cursor)
        assert judge(Cursor(cursor, entry.seq, look.epoch), seen) == Resumable(Position(cursor, entry.seq))
        assert judge(Cursor(cursor), seen) == Resumable(Position(cursor, entry.seq))
        wrong = judge(Cursor(cursor, entry.seq + 1 if entry.seq < EVENTS else entry.seq - 1), seen)
        assert isinstance(wrong, Gap)
    assert isinstance(judge(Cursor(START), await cold_log.look(channel, START)), Resumable)


async def test_a_gap_remains_where_a_policy_removed_history(cold_log: Log, channel: Channel, data: Path) -> None:
    """`trimmed`, with its range; a channel under a legal hold loses nothing."""
    held = parse_channel(channel.tenant, "conversation:held")
    await write(cold_log, channel, 60)
    await write(cold_log, held, 30)
    bounds = "hot_age:1s hot_count:10 total_age:2s"
    rules = f"{channel.tenant}/*={bounds};{channel.tenant}/conversation:held={bounds} hold"
    at_work = keeper(cold_log, data / "archive", rules)
    await at_work.turn()
    oldest = (await everything(cold_log, channel))[0]
    last_ms = int((await everything(cold_log, channel))[-1].id.partition(b"-")[0])
    while cold_log.now_ms() < last_ms + 2_200:
        await cold_log.ping()
    await at_work.turn()

    rest = await everything(cold_log, channel)
    seen = await cold_log.look(channel, oldest.id.decode())
    assert rest[0].seq > 1
    assert judge(Cursor(oldest.id.decode(), 1), seen) == Gap(GapReason.TRIMMED, 2, rest[0].seq - 1)
    assert seen.floor.seq == rest[0].seq - 1
    assert [entry.seq for entry in await everything(cold_log, held)] == list(range(1, 31))


async def test_a_damaged_or_missing_segment_is_a_gap_and_no_wrong_event(
    cold_log: Log, channel: Channel, history: list[Entry], data: Path
) -> None:
    """Events that cannot be read are told as damaged ones, as in Redis."""
    facts = await ArchiveRecords(cold_log).facts(channel)
    assert facts is not None
    segments = data / "archive" / "objects" / channel_folder(channel, facts.epoch) / "segment"
    (part,) = [file for file in segments.glob("*/*") if file.suffix != ".json"]
    content = bytearray(part.read_bytes())
    content[200] ^= 4
    part.write_bytes(content)

    flipped = await everything(cold_log, channel)
    assert all(entry.is_damaged for entry in flipped[:500])
    assert flipped[500:] == history[500:]
    async with reading_archive(settings("", data_dir=str(data))) as (_, again):
        shutil.rmtree(part.parent)
        log = await Log.open(cold_log.url, cold=again)
        gone = await everything(log, channel)
        await log.close()
    assert gone[0].is_damaged
    assert [entry.seq for entry in gone if not entry.is_damaged] == list(range(EVENTS - KEPT + 1, EVENTS + 1))


async def test_pages_go_on_beyond_damage_and_heal_with_it(
    cold_log: Log, channel: Channel, history: list[Entry], data: Path
) -> None:
    """Backwards too, the beginning is where history begins; a segment that was restored is read without a restart."""
    facts = await ArchiveRecords(cold_log).facts(channel)
    assert facts is not None
    segments = data / "archive" / "objects" / channel_folder(channel, facts.epoch) / "segment"
    (part,) = [file for file in segments.glob("*/*") if file.suffix != ".json"]
    sound = part.read_bytes()
    content = bytearray(sound)
    content[len(content) // 2] ^= 4
    part.write_bytes(content)

    back: list[Entry] = []
    while page := await cold_log.replay.page_back(channel, back[-1].id.decode() if back else "+"):
        back += page
    assert [entry for entry in back[::-1] if not entry.is_damaged] == history[:500] + history[1000:]

    part.write_bytes(sound)
    assert await everything(cold_log, channel) == history


@pytest.fixture
async def node(redis_url: str, data: Path) -> AsyncIterator[Node]:
    """A node with the archive of the data folder."""
    (data / "archive").mkdir(exist_ok=True)
    async with running_node(redis_url, data_dir=str(data)) as node:
        yield node


async def test_a_socket_resumes_from_the_first_event(node: Node, history: list[Entry], channel: Channel) -> None:
    """Every event once, in order, and the receipt says that nothing is missing."""
    first = history[0]
    async with client(node.ws_url, token("alice", channel.tenant)) as alice:
        answer = await alice.subscribe(channel.wire, after=first.id.decode(), seq=1)
        missed = await alice.events(EVENTS - 1)
        receipt = await alice.expect("channel.resumed", channel=channel.wire)

    assert (answer["recovered"], answer["gap"], answer["floor"]["seq"]) == (True, None, 0)
    assert [event["seq"] for event in missed] == list(range(2, EVENTS + 1))
    assert receipt["payload"]["count"] == EVENTS - 1


async def test_history_over_http_socket_and_sse_crosses(node: Node, history: list[Entry], channel: Channel) -> None:
    """Pages in both directions, and a stream from a cursor; all bytes are those that were stored."""
    wire = channel.wire.encode()
    stored = [json.loads(entry.wire(wire)) for entry in history]
    async with node.http(token("alice", channel.tenant)) as http:
        found: list[dict[str, Any]] = []
        cursor: str | None = "0"
        while cursor is not None:
            page = (
                await http.get(f"/v1/channels/{channel.wire}/events", params={"after": cursor, "limit": 1_000})
            ).json()
            assert page["gap"] is None
            found, cursor = found + page["events"], page["next"]
        back = (
            await http.get(
                f"/v1/channels/{channel.wire}/events", params={"before": history[100].id.decode(), "limit": 50}
            )
        ).json()
        at = history[200].id.decode()
        state = (await http.get(f"/v1/channels/{channel.wire}/state", params={"at": at})).json()
        got = 0
        async with http.stream("GET", f"/v1/channels/{channel.wire}/stream", headers={"Last-Event-ID": at}) as stream:
            async for line in stream.aiter_lines():
                got += line.startswith("id:")
                if got >= 400:
                    break

    assert found == stored
    assert back["events"] == stored[50:100]
    assert state["state_at"]["seq"] == 201 if isinstance(state["state_at"], dict) else state["state_at"] == 201


def test_the_command_line_crosses(command_line: CommandLine, redis_url: str, data: Path, tenant: str) -> None:
    """`hub replay` prints all of it, `hub state --at` folds it."""
    import asyncio

    channel = parse_channel(tenant, "conversation:a")

    async def begin() -> list[Entry]:
        log = await Log.open(redis_url)
        await write(log, channel, 120)
        found = await everything(log, channel)
        await keeper(log, data / "archive").turn()
        await log.close()
        return found

    history = asyncio.run(begin())
    where = ("--tenant", tenant, "--redis", redis_url, "--data", str(data))
    code, out, _ = command_line("replay", "conversation:a", *where)
    state, told, _ = command_line("state", "conversation:a", "--at", history[50].id.decode(), *where)

    assert (code, state) == (0, 0)
    assert [json.loads(line)["seq"] for line in out.splitlines()] == list(range(1, 121))
    assert json.loads(told)["state_at"] == 51


def test_an_archive_is_opened_where_there_is_one(tmp_path: Path) -> None:
    """Without a folder and without HUB_RETENTION there is none, and none is made."""
    import asyncio

    async def opened() -> StoreArchive | None:
        async with reading_archive(settings("", data_dir=str(tmp_path))) as (archive, _):
            return archive

    assert asyncio.run(opened()) is None
    assert list(tmp_path.iterdir()) == []
