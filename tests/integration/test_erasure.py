"""Erasing a person: two nodes, a worker, an archive and a Redis with AOF and RDB; the raw bytes are searched for the text."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from consumers.agents import AgentInput, Back, Context, Item
from consumers.agents.loading import served
from hub.client import Cursor, Event, HubClient
from hub.config import Settings
from hub.node.states import SNAPSHOT_EVERY_EVENTS
from hub.storage.choice import open_seals
from ops.cli.worker_process import running_worker, worker_options
from streams.archive.merkle import leaf_hash
from streams.archive.retention import parse_retention
from streams.archive.segments import line_of
from streams.channel import parse_channel
from streams.envelope import Actor, Appended, Draft
from streams.errors import ArchiveDiffers, ConfigurationRefused, IdempotencyConflict, LogUnavailable
from streams.events.custom import read_schemas
from streams.redis.append import checksum
from streams.redis.log import Log
from streams.redis.stored import StoredLog
from streams.sealing.keys import KeyFolder, subject_of
from streams.sealing.sealed import is_sealed, parse_seal_rule
from support.archive_rig import SIGNER, keeper
from support.nodes import SECRET, Node, running_node, settings, token
from support.redis_server import RedisServer
from support.tail_recorder import TailRecorder

WORDS = "the diagnosis is Q87-point-3"
PLACE = "conversation:room"
STORED_FIELDS = ("seq", "type", "v", "actor", "data", "meta", "sum")
CommandLine = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """A Redis of this file alone, with AOF and RDB."""
    server = RedisServer(is_persistent=True, fsync="always")
    yield server
    server.close()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one store of keys for the one log of this file."""
    return tmp_path_factory.mktemp("keys")


@dataclass
class Rig:
    """The settings of a hub with sealed channels, and its command line."""

    tenant: str
    folder: Path
    own: Settings
    line: CommandLine

    @property
    def redis_url(self) -> str:
        """Its Redis."""
        assert self.own.redis_url is not None
        return self.own.redis_url

    @asynccontextmanager
    async def node(self) -> AsyncIterator[Node]:
        """A node."""
        changes = {name: getattr(self.own, name) for name in ("data_dir", "sealed", "subject_keys", "retention")}
        async with running_node(self.redis_url, **changes) as node:
            yield node

    @asynccontextmanager
    async def log(self) -> AsyncIterator[Log]:
        """The log, as a node has it."""
        log = await Log.open(self.redis_url, seals=open_seals(self.own))
        try:
            yield log
        finally:
            await log.close()

    async def hub(self, *arguments: str) -> tuple[int, str, str]:
        """Run a command."""
        where = ("--tenant", self.tenant, "--redis", self.redis_url, "--data", self.own.data_dir)
        return await asyncio.to_thread(self.line, *arguments, *where)

    async def check_proof(self, proof: str, line: bytes) -> None:
        """Check a proof with the hub's public key alone."""
        (self.folder / "proof").write_text(proof)
        (self.folder / "event").write_bytes(line + b"\n")
        _, key, _ = await asyncio.to_thread(self.line, "audit", "key", "--data", self.own.data_dir)
        check = ("audit", "check", str(self.folder / "proof"), "--event", str(self.folder / "event"), "--key", key)
        assert (await asyncio.to_thread(self.line, *check))[0] == 0

    def holders(self, text: str, *folders: Path) -> list[str]:
        """The files that contain a text."""
        while True:
            files = [file for folder in (self.folder, *folders) for file in folder.rglob("*") if file.is_file()]
            try:
                return [str(file) for file in files if text.encode() in file.read_bytes()]
            except FileNotFoundError:  # the keeper gave a file its name meanwhile: look at all of them again
                continue


@pytest.fixture
def rig(
    redis: RedisServer,
    keys: Path,
    tenant: str,
    tmp_path: Path,
    command_line: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
) -> Rig:
    """Conversations and teams are sealed; the archive keeps three events in Redis."""
    monkeypatch.setenv("HUB_SUBJECT_KEYS", str(keys))
    monkeypatch.setenv("HUB_JWT_SECRET", SECRET)
    own = settings(
        redis.url,
        data_dir=str(tmp_path),
        sealed=parse_seal_rule("*:conversation,*:team"),
        subject_keys=str(keys),
        retention=parse_retention(f"{tenant}/*=hot_count:3"),
        checkpoint_interval_s=0.2,
    )
    return Rig(tenant, tmp_path, own, command_line)


async def take(events: AsyncIterator[Event], count: int) -> list[Event]:
    """The next events."""
    async with asyncio.timeout(30):
        return [await anext(events) for _ in range(count)]


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what no event announces; the condition asks Redis."""
    async with asyncio.timeout(30):
        while not await condition():
            pass


async def saved(log: Log, command: str) -> None:
    """Let Redis write one of its files anew."""
    calls = log.calls_in(0)
    await calls.call(command)
    running = "aof_rewrite_in_progress" if command == "BGREWRITEAOF" else "rdb_bgsave_in_progress"

    async def is_done() -> bool:
        info = (await calls.call("INFO", "persistence")).decode()
        return f"{running}:0" in info and "aof_rewrite_scheduled:1" not in info

    await until(is_done)


class Scene:
    """Maria writes about herself, Bob about other things; an agent notes the texts that it was given.

    Attributes:
        given: for each run, the texts of the history that its agent got.
        hers: the IDs of Maria's messages.
        before: the first nine events, as Bob got them live.
    """

    def __init__(self, rig: Rig, log: Log, maria: HubClient, bob: HubClient) -> None:
        self.rig, self.log, self.maria, self.bob = rig, log, maria, bob
        self.place = parse_channel(rig.tenant, PLACE)
        self.given = asyncio.Queue[list[str]]()
        self.hers: list[str] = []
        self.before: list[Event] = []

    async def agent(self, ctx: Context, _given: AgentInput) -> AsyncGenerator[Item, Back]:
        """Notes its history, in both forms."""
        short = [message.text for message in await ctx.history()]
        self.given.put_nowait(short + [message.text async for message in ctx.all_messages()])
        yield "noted"

    async def asked(self, text: str) -> list[str]:
        """Maria asks the agent; the history that it got."""
        self.hers.append((await self.maria.send(PLACE, text, agent="a")).id)
        async with asyncio.timeout(30):
            return await self.given.get()

    async def play(self) -> None:
        """Everybody writes and reads."""
        live = self.bob.subscribe(PLACE, after="0", state=False)
        mention = [{"type": "mention", "kind": "user", "id": "bob"}]
        self.hers.append((await self.maria.send(PLACE, f"note: {WORDS}", parts=mention, agent="none")).id)
        for number in range(6):
            await self.bob.send(PLACE, f"bob {number}", agent="none")
        self.hers.append((await self.maria.send(PLACE, f"again: {WORDS}", agent="none")).id)
        assert sum(WORDS in text for text in await self.asked("count my letters")) == 4
        self.before = await take(live, 9)
        assert sum(WORDS in event.payload["text"] for event in self.before) == 2
        assert WORDS in (await take(self.bob.subscribe("user:bob", after="0"), 1))[0].payload["body"]
        assert WORDS in json.dumps((await self.bob.state(PLACE)).state["messages"])

    async def archived(self) -> None:
        """Wait until all but a few events left Redis."""
        names = self.log.keys.of(self.place)

        async def is_short() -> bool:
            return int(await self.log.calls_of(self.place).call("XLEN", names.stream)) <= 4

        await until(is_short)

    async def check_erased(self) -> None:
        """The same ids and seqs, Bob's events to the byte, and nothing of the words, in every way of reading."""
        theirs = [event.raw for event in self.before if event.actor["id"] == "bob"]
        for client in (self.bob, self.maria):
            events = (await client.history(PLACE)).events
            assert [event.seq for event in events] == list(range(1, len(events) + 1))
            erased = [(event.id, event.payload) for event in events if event.is_erased]
            assert erased == [(event_id, {}) for event_id in self.hers]
            assert [event.raw for event in events if event.actor["id"] == "bob"] == theirs
            shown = (await client.state(PLACE)).state["messages"]
            assert [message["message_id"] for message in shown if message.get("erased")] == self.hers
            assert WORDS not in json.dumps(shown)
        assert (await take(self.bob.subscribe("user:bob", after="0"), 1))[0].is_erased


async def test_a_person_is_erased_and_the_rest_stands(rig: Rig, redis: RedisServer) -> None:
    """Not in plain text on any disk before; nowhere readable after; others' events, resume, agents and the proof go on."""
    async with AsyncExitStack() as running:
        first, second = [await running.enter_async_context(rig.node()) for _ in range(2)]
        log = await running.enter_async_context(rig.log())
        maria = await running.enter_async_context(HubClient(first.url, token("maria", rig.tenant)))
        bob = await running.enter_async_context(HubClient(second.url, token("bob", rig.tenant)))
        scene = Scene(rig, log, maria, bob)
        options = dataclasses.replace(worker_options(rig.own), agents={"a": served("a", scene.agent)})
        worker = await running.enter_async_context(running_worker(rig.own, options))
        await scene.play()
        await scene.archived()
        await saved(log, "BGSAVE")
        assert rig.holders(WORDS, redis.folder) == []
        stored = next(entry for entry in await worker.log.stored.page(scene.place) if entry.seq == 1)
        assert is_sealed(stored.data)
        code, proof, err = await rig.hub("audit", "prove", PLACE, scene.hers[0])
        assert code == 0, err

        code, out, err = await rig.hub("erase", "maria", "--dry-run")
        assert (code, "4 events in 2 channels are sealed" in out, "dry run" in out) == (0, True, True), out + err
        assert not any(event.is_erased for event in (await bob.history(PLACE)).events)
        code, out, err = await rig.hub("erase", "maria", "--yes", "--by", "olga")
        assert (code, "recorded in system:erasures" in out) == (0, True), out + err
        for one in (first.hub.log, second.hub.log, worker.log):
            assert one.seals is not None
            await one.seals.look()

        await scene.check_erased()
        async with second.http(token("bob", rig.tenant)) as http:
            page = (await http.get(f"/v1/channels/{PLACE}/events")).json()
            assert [one["payload"] for one in page["events"] if one.get("erased")] == [{}] * 3
        opened = scene.before[0]
        replayed = await take(maria.subscribe(PLACE, after=Cursor(opened.id, 1, opened.epoch), state=False), 8)
        assert [event.seq for event in replayed] == list(range(2, 10))
        assert [event.is_erased for event in replayed] == [event.actor["id"] == "maria" for event in replayed]
        texts = await scene.asked("I am back")  # under a new key
        assert not any(WORDS in text or text == "" for text in texts)
        (code, out, err), newest = await rig.hub("erase", "maria", "--dry-run"), (await bob.history(PLACE)).events
        assert (code, "5 events" in out) == (0, True), out + err
        assert [event.payload["text"] for event in newest if event.id == scene.hers[-1]] == ["I am back"]

    async with rig.log() as log:
        await rig.check_proof(proof, stored.wire(PLACE.encode()))
        code, out, err = await rig.hub("audit", "verify", PLACE)
        assert (code, err) == (0, ""), out + err
        await saved(log, "BGREWRITEAOF")
        await saved(log, "BGSAVE")
        assert rig.holders(WORDS, redis.folder) == []
        records = [json.loads(one.data) for one in await log.page(parse_channel(rig.tenant, "system:erasures"))]
        assert [(one["by"], one["events"], one["channels"]) for one in records] == [("olga", 4, 2)]
        assert "maria" not in json.dumps(records)


async def message(rig: Rig, log: Log, text: str, command: str | None = None, user: str = "maria") -> Appended:
    """Append a message as a node does."""
    data, place = json.dumps({"text": text}).encode(), parse_channel(rig.tenant, PLACE)
    return await log.append(Draft(place, "chat.message", data, Actor("user", user), command=command))


async def test_a_command_sent_again_is_recognised_although_every_seal_differs(rig: Rig) -> None:
    """The digest is of the payload, by the person's key; another body under the same id is still refused."""
    async with rig.log() as one, rig.log() as other:
        first = await message(rig, one, WORDS, "c1")
        second = await message(rig, other, WORDS, "c1")
        assert (second.id, second.is_duplicate) == (first.id, True)
        with pytest.raises(IdempotencyConflict):
            await message(rig, other, "else", "c1")


async def test_an_erasure_that_was_cut_off_is_completed_and_recorded_once(rig: Rig, keys: Path) -> None:
    """Killed between the key and the record; and repeated when all is done."""
    async with rig.log() as log:
        await message(rig, log, WORDS)
        KeyFolder(keys).destroy(rig.tenant, "maria", "2027-01-01T00:00:00+00:00")
        for _ in range(2):
            code, out, err = await rig.hub("erase", "maria", "--yes")
            assert (code, "were erased before" in out) == (0, True), out + err
        assert len(await log.page(parse_channel(rig.tenant, "system:erasures"))) == 1
        code, _, err = await rig.hub("erase", "marla", "--yes")
        assert (code, "there never was one" in err) == (1, True)


async def test_a_restored_backup_of_the_keys_is_erased_again(rig: Rig, keys: Path, tmp_path: Path) -> None:
    """The records name the keys; nothing else of the backup is touched."""
    place = parse_channel(rig.tenant, PLACE)
    async with rig.log() as log:
        await message(rig, log, WORDS)
        await message(rig, log, "mine", user="bob")
        await asyncio.to_thread(shutil.copytree, keys, tmp_path / "backup")
        assert (await rig.hub("erase", "maria", "--yes"))[0] == 0
        await asyncio.to_thread(shutil.copytree, tmp_path / "backup", keys, dirs_exist_ok=True)
    async with rig.log() as log:
        assert [entry.is_erased for entry in await log.page(place)] == [False, False]
        code, out, err = await rig.hub("erase", "--recorded")
        assert (code, "1 erasures are recorded; 1 of their keys were there" in out) == (0, True), out + err
        assert log.seals is not None
        await log.seals.look()
        assert [entry.is_erased for entry in await log.page(place)] == [True, False]


@pytest.mark.parametrize("is_archived", [True, False])
async def test_erasures_on_record_before_redis_lost_them_are_done_again(
    rig: Rig, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_archived: bool
) -> None:
    """The archive has the records of former lives; one that neither has is told, and it ends with 1."""
    records = parse_channel(rig.tenant, "system:erasures")
    (tmp_path / "audit.key").write_text(str(SIGNER))
    if is_archived:
        monkeypatch.setenv("HUB_RETENTION", f"{rig.tenant}/*=hot_count:3")
    async with rig.log() as log:
        for user in ("maria", "bob"):
            await message(rig, log, WORDS, user=user)
        await asyncio.to_thread(shutil.copytree, keys, tmp_path / "backup")
        assert (await rig.hub("erase", "maria", "--yes"))[0] == 0
        with contextlib.suppress(ArchiveDiffers):  # the archives of the tests before are elsewhere
            await keeper(log, tmp_path / "archive", f"{rig.tenant}/*=hot_count:3").turn()
        await log.calls_of(records).call("DEL", log.keys.of(records).stream, log.keys.of(records).meta)
        assert (await rig.hub("erase", "bob", "--yes"))[0] == 0
        await asyncio.to_thread(shutil.copytree, tmp_path / "backup", keys, dirs_exist_ok=True)

        code, out, err = await rig.hub("erase", "--recorded")

        count = 2 if is_archived else 1
        assert (code, f"{count} erasures are recorded; {count} of their keys were there" in out) == (2 - count, True), (
            out
        )
        assert ("erasures on record that cannot be read: 1; they are neither" in err) is not is_archived
        assert log.seals is not None
        await log.seals.look()
        erased = [entry.is_erased for entry in await log.page(parse_channel(rig.tenant, PLACE))]
        assert erased == [is_archived, True]


async def test_an_event_that_names_another_person_is_erased_with_either(rig: Rig, tmp_path: Path) -> None:
    """`x-personal` in a schema of one's own: an order is about the customer and by the seller."""
    schema = {"type": "object", "properties": {"customer": {"type": "string", "x-personal": True}}}
    (tmp_path / "custom.order.v1.json").write_text(json.dumps(schema))
    place, own_events = parse_channel(rig.tenant, PLACE), read_schemas(tmp_path)
    log = await Log.open(rig.redis_url, seals=open_seals(rig.own, own_events))
    for seller, customer in (("sam", "maria"), ("maria", "bob"), ("sam", "bob")):
        data = json.dumps({"customer": customer}).encode()
        await log.append(Draft(place, "custom.order", data, Actor("user", seller)))
    assert [entry.payload["customer"] for entry in await log.page(place)] == ["maria", "bob", "bob"]
    code, out, err = await rig.hub("erase", "maria", "--yes")
    assert (code, "2 events in 1 channels" in out) == (0, True), out + err
    assert log.seals is not None
    await log.seals.look()
    assert [entry.is_erased for entry in await log.page(place)] == [True, True, False]
    await log.close()


@contextmanager
def away(keys: Path) -> Iterator[None]:
    """The store of keys is not there, as if it were not mounted."""
    other = keys.with_name("away")
    keys.rename(other)
    try:
        yield
    finally:
        other.rename(keys)


async def test_a_store_that_is_away_is_not_an_erasure(rig: Rig, keys: Path) -> None:
    """Readers are told to try again, writers that nothing was stored; then all goes on, and live events follow in order."""
    place = parse_channel(rig.tenant, PLACE)
    async with rig.node() as node, rig.log() as log, rig.log() as other:
        await message(rig, log, WORDS, user="ann")
        async with HubClient(node.url, token("zoe", rig.tenant)) as zoe:
            live = zoe.subscribe(PLACE, after="0", state=False)
            assert (await take(live, 1))[0].payload["text"] == WORDS
            with away(keys):
                with pytest.raises(LogUnavailable, match="does not answer"):
                    await other.page(place)
                with pytest.raises(LogUnavailable, match="nothing was stored"):
                    await message(rig, other, "two", user="max")
                await message(rig, log, "two", user="ann")  # its key is in memory here, and at the node
                assert (await take(live, 1))[0].payload["text"] == "two"
            seals = node.hub.log.seals
            assert seals is not None
            await message(rig, log, "three", user="eve")
            assert (await take(live, 1))[0].payload["text"] == "three"
            seals.forget()
            with away(keys):
                await message(rig, log, "four", user="ann")
                await message(rig, log, "five", user="eve")
                with pytest.raises(LogUnavailable):
                    await node.hub.log.page(place)
            assert [event.payload["text"] for event in await take(live, 2)] == ["four", "five"]


async def test_events_that_wait_for_their_keys_are_not_read_again_for_each_new_one(rig: Rig, keys: Path) -> None:
    """Otherwise a busy channel would be read from Redis over and over while the store is away."""
    place, text = parse_channel(rig.tenant, PLACE), "x" * 60_000
    async with rig.log() as log, rig.log() as reader:
        named = (parse_channel(rig.tenant, f"document:{number}") for number in range(1_000))
        plain = next(one for one in named if log.keys.of(one).partition == log.keys.of(place).partition)
        await message(rig, log, text, user="ann")
        sealed, beside = TailRecorder(reader, place), TailRecorder(reader, plain)
        await sealed.watch()
        await beside.watch()
        heard = 0

        async def both() -> None:
            nonlocal heard
            await message(rig, log, text, user="ann")
            await log.append(Draft(plain, "document.update", b"{}", Actor("user", "ann")))
            await beside.until(events=(heard := heard + 1))

        async def sent_bytes() -> int:
            info = (await log.calls_in(0).call("INFO", "stats")).decode()
            return int(info.partition("total_net_output_bytes:")[2].split()[0])

        with away(keys):
            await both()
            before = await sent_bytes()
            for _ in range(9):
                await both()
            read_bytes = await sent_bytes() - before
        await sealed.until(events=10)
    assert read_bytes < 3 * len(text)


async def test_a_store_that_hangs_delays_a_channel_once_and_not_for_each_message(
    rig: Rig, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nine people without a key in memory are refused together; Ann, who waits between them, is stored."""
    monkeypatch.setattr("streams.sealing.seals.CALL_TIMEOUT_S", 1.0)
    people = [f"new{number}" for number in range(9)]
    files = [keys / "subjects" / name[:2] / name / "1" for name in (subject_of(rig.tenant, one) for one in people)]
    async with rig.log() as log:
        await message(rig, log, WORDS, user="ann")
        for file in files:
            file.parent.mkdir(parents=True)
            os.mkfifo(file)  # whoever opens it for reading waits for a writer
        try:
            async with asyncio.timeout(5):  # one after another they would take nine seconds
                sent = [message(rig, log, "hello", user=user) for user in (*people[:4], "ann", *people[4:])]
                results = await asyncio.gather(*sent, return_exceptions=True)
        finally:
            for file in files:
                with contextlib.suppress(OSError):  # nobody waits there
                    os.close(os.open(file, os.O_WRONLY | os.O_NONBLOCK))
                file.unlink()
        assert [type(one) for one in results] == [*[LogUnavailable] * 4, Appended, *[LogUnavailable] * 5]


async def test_a_process_without_the_store_or_with_another_does_not_start(
    rig: Rig, redis: RedisServer, tmp_path: Path
) -> None:
    """It could neither read nor know what was erased."""
    async with rig.log() as log:
        await message(rig, log, WORDS)
    with pytest.raises(ConfigurationRefused, match="set HUB_SUBJECT_KEYS"):
        await Log.open(redis.url)
    other = dataclasses.replace(rig.own, subject_keys=str(tmp_path / "other"))
    with pytest.raises(ConfigurationRefused, match="all processes need the same one"):
        await Log.open(redis.url, seals=open_seals(other))


async def test_a_process_that_would_store_in_plain_text_what_others_seal_says_so(
    rig: Rig, redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Each time it starts, as a command does in an environment without HUB_SEALED."""
    async with rig.log():
        told = [text for text in caplog.messages if "plain text" in text]
    less = dataclasses.replace(rig.own, sealed=None)
    for _ in range(2):
        await (await Log.open(redis.url, seals=open_seals(less))).close()
        told += [text for text in caplog.messages if "plain text" in text]
        caplog.clear()

    text = "stored in plain text here, but sealed by others (HUB_SEALED): *:conversation, *:team"
    assert told == [text, text]


async def test_a_payload_that_was_changed_or_moved_is_damaged_not_erased(rig: Rig) -> None:
    """Whoever can write to Redis can forge the checksum, but not the seal."""
    async with rig.log() as log:
        await message(rig, log, WORDS)
        place = parse_channel(rig.tenant, PLACE)
        (entry,) = await log.stored.page(place)
        for number, other in enumerate((entry, entry._replace(data=entry.data[:-9] + b'AAAAAAAA"'))):
            moved = parse_channel(rig.tenant, f"conversation:{number}") if number == 0 else place
            names = log.keys.of(moved)
            facts = (other.type, other.v, other.actor, other.data, other.meta)
            values = (b"%d" % (number + 1), *facts, checksum(names.path, *facts))
            fields = [item for pair in zip(STORED_FIELDS, values, strict=True) for item in pair]
            await log.calls_of(moved).call("XADD", names.stream, "*", *fields)
            found = (await log.page(moved))[-1]
            assert (found.is_damaged, found.is_erased) == (True, False)


async def test_pages_that_are_shared_are_let_go_with_an_erasure(rig: Rig) -> None:
    """A page that was opened before is not sent to the next one who resumes from the same place."""
    place = parse_channel(rig.tenant, PLACE)
    async with AsyncExitStack() as running:
        node, log = await running.enter_async_context(rig.node()), await running.enter_async_context(rig.log())
        await message(rig, log, WORDS)
        users = [
            await running.enter_async_context(HubClient(node.url, token(user, rig.tenant))) for user in ("bob", "zoe")
        ]
        followed = [user.subscribe(PLACE, after="0", state=False) for user in users]
        for events in followed:
            await take(events, 1)
        pages, fanout = node.hub.recovery.pages, node.hub.fanouts[place]
        code, out, err = await rig.hub("erase", "maria", "--yes", "--by", "olga")
        assert code == 0, out + err
        await pages.read(fanout, "0", fanout.position.id)
        assert node.hub.log.seals is not None
        await node.hub.log.seals.look()
        (event,) = (await pages.read(fanout, "0", fanout.position.id)).events.lines
    assert json.loads(event)["erased"] is True


async def test_no_snapshot_of_a_sealed_channel_is_written(rig: Rig, redis: RedisServer) -> None:
    """Redis would keep the state in plain text; the state is folded from the log instead."""
    place = parse_channel(rig.tenant, PLACE)
    async with rig.node() as node, rig.log() as log, HubClient(node.url, token("bob", rig.tenant)) as bob:
        await asyncio.gather(*(message(rig, log, f"{WORDS} {number}") for number in range(SNAPSHOT_EVERY_EVENTS + 5)))
        assert WORDS in json.dumps((await bob.state(PLACE)).state["messages"])
        assert await log.calls_of(place).call("EXISTS", log.keys.snapshot(place)) == 0
        await saved(log, "BGSAVE")
        assert rig.holders(WORDS, redis.folder) == []


async def test_a_long_command_learns_of_an_erasure(rig: Rig, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An export or a search that has read the person's key before looks at the store again."""
    place, seals = parse_channel(rig.tenant, PLACE), open_seals(rig.own)
    assert seals is not None
    async with rig.log() as log:
        await message(rig, log, WORDS)
    reading = await StoredLog.open(rig.redis_url, seals=seals)
    assert reading is not None
    assert [entry.is_erased for entry in await reading.page(place)] == [False]
    KeyFolder(keys).destroy(rig.tenant, "maria", "2027-01-01T00:00:00+00:00")
    monkeypatch.setattr("streams.sealing.seals.LOOK_EVERY_S", 0.0)
    assert [entry.is_erased for entry in await reading.page(place)] == [True]
    reading.close()
    await seals.close()


async def test_the_leaf_of_an_acknowledgement_is_that_of_the_sealed_bytes(rig: Rig) -> None:
    """As the archive records it, which never sees the text."""
    place = parse_channel(rig.tenant, PLACE)
    async with rig.log() as log:
        draft = Draft(place, "chat.message", b'{"text":"hello"}', Actor("user", "maria"), wants_leaf=True)
        appended = await log.append(draft)
    stored = await StoredLog.open(rig.redis_url)
    assert stored is not None
    (entry,) = await stored.page(place)
    stored.close()
    assert (appended.leaf, b"hello" in entry.data) == (leaf_hash(line_of(entry, PLACE.encode())).hex(), False)
