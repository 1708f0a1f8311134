"""The promises of the log, as cases run on every Redis release it is built for.

A test class gives the fixtures `server` (a redis-server of its own, whose other tests may run beside), `log` and `tenant`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable
from typing import Final

import pytest

from streams.channel import Channel, Kind
from streams.cursor import Cursor, Gap, GapReason, Position, Resumable, judge, ms_of_id
from streams.envelope import Actor, Appended, Draft, Durability, Entry, Guard, Lane, OpenText
from streams.errors import (
    CommandIdsFull,
    ConfigurationRefused,
    GuardRefused,
    IdempotencyConflict,
    LogUnavailable,
    StreamsError,
)
from streams.records.directory import ChannelDirectory, ListedChannel
from streams.records.leases import Leases
from streams.records.presence import PresenceChange, PresenceStore
from streams.records.run_store import RunStore
from streams.redis.groups import Groups
from streams.redis.keys import Limits
from streams.redis.log import Log
from streams.redis.server_check import count_commands
from support.appending import outcome
from support.redis_server import RedisServer

ALICE = Actor("user", "alice")
BOB = Actor("user", "bob")
OTHERS = [f"c{number}" for number in range(40)]  # more channels than partitions: each has some


def place(tenant: str, name: str = "1") -> Channel:
    return Channel(tenant, Kind.CONVERSATION, name)


def neighbour(log: Log, channel: Channel) -> Channel:
    """Another channel of the same partition."""
    own = log.keys.of(channel).partition
    names = (place(channel.tenant, f"n{number}") for number in range(1_000))
    return next(other for other in names if other != channel and log.keys.of(other).partition == own)


def said(
    channel: Channel, text: str = "hi", command: str | None = None, actor: Actor = ALICE, **fields: object
) -> Draft:
    return Draft(channel, "chat.message", f'{{"text":"{text}"}}'.encode(), actor, command=command, **fields)  # type: ignore[arg-type]


async def on_every_server(log: Log, *command: str) -> None:
    """Send a command without keys to each server of the log."""
    for server in log.servers:
        await server.calls.call(*command)


async def together(log: Log, drafts: list[Draft]) -> list[Appended | StreamsError]:
    """Append in one tick, so that they share their batches; the answers in order."""
    return await asyncio.gather(*(outcome(log, draft) for draft in drafts))


LEASE: Final = 3
"""The place in `ways` of the lease."""


def ways(log: Log, channel: Channel) -> list[Awaitable[object]]:
    """One write over each way there is to Redis."""
    calls, key = log.calls_of(channel), log.keys.guard(channel, "any")
    add = ("XADD", log.keys.work(log.keys.of(channel).partition), "*", "channel", channel.path)
    return [
        log.append(said(channel)),
        log.append(said(channel, lane=Lane.LIVE)),
        RunStore(log).add_steer(channel, "r1", "1-1"),
        Leases(log, "w").acquire_run(channel, "r1", "w", 1_000),
        PresenceStore(log).apply("n", [PresenceChange("join", channel, "d", "alice")]),
        Groups(log).ensure(log.keys.of(channel).partition, "g"),
        calls.call("HSET", key, "a", 1),
        calls.pipeline([("HSET", key, "a", 1), add]),
        calls.transaction([("HSET", key, "a", 1), add]),
    ]


async def failure(way: Awaitable[object]) -> StreamsError | None:
    try:
        await way
    except StreamsError as error:
        return error
    return None


async def everything(log: Log, channel: Channel) -> list[Entry]:
    found: list[Entry] = []
    while page := await log.page(channel, found[-1].id.decode() if found else "0"):
        found += page
    return found


def seqs(entries: list[Entry]) -> list[int]:
    return [entry.seq for entry in entries]


class AppendCases:
    """Order, batches, seq."""

    async def test_seqs_are_dense_and_ids_rise(self, log: Log, tenant: str) -> None:
        """1, 2, 3 … without holes, and IDs in the same order."""
        answers = [await log.append(said(place(tenant), str(n))) for n in range(5)]
        entries = await everything(log, place(tenant))

        assert [a.seq for a in answers] == seqs(entries) == [1, 2, 3, 4, 5]
        assert [a.id for a in answers] == [e.id.decode() for e in entries]
        assert sorted((int(p), int(q)) for p, q in (a.id.split("-") for a in answers)) == [
            (int(p), int(q)) for p, q in (a.id.split("-") for a in answers)
        ]

    @pytest.mark.parametrize("count", [1, 2, 499, 500, 501, 1_200])
    async def test_a_batch_of_any_size_keeps_each_channels_order(self, log: Log, tenant: str, count: int) -> None:
        """Group commit spreads a tick's drafts over partitions and calls; within a channel they stay in order."""
        chance = random.Random(count)
        drafts = [said(place(tenant, chance.choice(OTHERS)), str(number)) for number in range(count)]

        answers = await together(log, drafts)

        for name in OTHERS:
            mine = [(d, a) for d, a in zip(drafts, answers, strict=True) if d.channel.name == name]
            entries = await everything(log, place(tenant, name))
            assert [(e.data, e.seq) for e in entries] == [(d.data, n) for n, (d, _) in enumerate(mine, 1)]
            assert [a.seq for _, a in mine if isinstance(a, Appended)] == seqs(entries)

    async def test_what_is_submitted_while_a_batch_is_under_way_is_the_next(self, log: Log, tenant: str) -> None:
        """Ten waves, each submitted in a tick of its own: order holds, and fewer calls than drafts were made."""
        before = log.batch_count
        waves = []
        for wave in range(10):
            waves += [asyncio.ensure_future(outcome(log, said(place(tenant), f"{wave}-{n}"))) for n in range(20)]
            await asyncio.sleep(0)  # the next wave finds the first batch on its way

        await asyncio.gather(*waves)

        texts = [entry.payload["text"] for entry in await everything(log, place(tenant))]
        assert texts == [f"{wave}-{n}" for wave in range(10) for n in range(20)]
        assert log.batch_count - before < 10

    async def test_a_stored_event_is_told_in_the_agreed_fields(self, log: Log, tenant: str) -> None:
        """Always the same fields in the same order; what is absent is left out of the JSON."""
        draft = said(place(tenant), "hi", "c-1", correlation="1-0", causation="2-0")
        appended = await log.append(draft)
        raw = await log.redis.xrange(log.keys.of(place(tenant)).stream)
        (entry,) = await everything(log, place(tenant))

        assert list(raw[0][1]) == [b"seq", b"type", b"v", b"actor", b"data", b"meta", b"sum"]
        assert (
            entry.wire(b"conversation:1")
            == (
                f'{{"id":"{appended.id}","seq":1,"channel":"conversation:1","type":"chat.message","v":1,'
                '"actor":{"kind":"user","id":"alice"},'
                '"meta":{"command":"c-1","correlation":"1-0","causation":"2-0"},"payload":{"text":"hi"}}'
            ).encode()
        )

    async def test_a_wanted_event_leaves_a_work_entry(self, log: Log, tenant: str) -> None:
        """Written by the same script; an event nobody wants leaves none."""
        wanted = await log.append(said(place(tenant), is_wanted=True))
        await log.append(said(place(tenant)))

        work = await log.redis.xrange(log.keys.work(log.keys.of(place(tenant)).partition))
        mine = [fields for _, fields in work if fields[b"channel"] == place(tenant).path.encode()]
        assert mine == [
            {b"channel": place(tenant).path.encode(), b"event": wanted.id.encode(), b"type": b"chat.message"}
        ]

    async def test_a_batch_rings_once_with_every_channel_that_moved(self, log: Log, tenant: str) -> None:
        """One bell entry a partition and batch, each channel named once, its two lanes apart."""
        channel, other = place(tenant), neighbour(log, place(tenant))
        bell = log.keys.bell(log.keys.of(channel).partition)

        await together(log, [said(channel), said(other), said(channel), said(other, lane=Lane.LIVE)])

        ((_, fields),) = await log.redis.xrevrange(bell, count=1)
        assert fields[b"events"].split() == [channel.path.encode(), other.path.encode()]
        assert fields[b"live"].split() == [other.path.encode()]

    async def test_the_live_lane_has_no_seq_and_is_short(self, log: Log, tenant: str) -> None:
        """Live entries take no number and no idempotency, and only the newest are kept."""
        answers = await together(log, [said(place(tenant), str(n), "same", lane=Lane.LIVE) for n in range(2_500)])
        stored = await log.append(said(place(tenant)))

        live = await log.replay.live_entries(place(tenant))
        assert {(a.seq, a.is_duplicate) for a in answers if isinstance(a, Appended)} == {(0, False)}
        assert stored.seq == 1
        assert 1_000 <= len(live) <= 1_100  # trimming drops whole nodes of 100
        assert live[-1].payload == {"text": "2499"}
        assert live[-1].wire(b"conversation:1").startswith(b'{"channel":"conversation:1","type":"chat.message"')


class IdempotencyCases:
    """One command id, one event."""

    async def test_the_same_command_again_gets_the_first_answer(self, log: Log, tenant: str) -> None:
        """Stored once, answered alike, marked as a duplicate."""
        first = await log.append(said(place(tenant), "hi", "c-1"))
        again = await log.append(said(place(tenant), "hi", "c-1"))

        assert again == first._replace(is_duplicate=True, is_first=False)
        assert len(await everything(log, place(tenant))) == 1

    async def test_the_same_command_twice_in_one_batch_is_stored_once(self, log: Log, tenant: str) -> None:
        """Idempotency holds within a batch too."""
        first, again = await together(log, [said(place(tenant), "hi", "c-1"), said(place(tenant), "hi", "c-1")])

        assert isinstance(first, Appended)
        assert again == first._replace(is_duplicate=True, is_first=False)

    async def test_the_same_id_with_another_body_is_a_conflict(self, log: Log, tenant: str) -> None:
        """Another payload, type or channel under one id is refused and stores nothing."""
        await log.append(said(place(tenant), "hi", "c-1"))
        other = neighbour(log, place(tenant))
        retyped = Draft(place(tenant), "chat.edit", b'{"text":"hi"}', ALICE, command="c-1")

        answers = await together(log, [said(place(tenant), "ho", "c-1"), said(other, "hi", "c-1"), retyped])

        assert [type(answer) for answer in answers] == [IdempotencyConflict] * 3
        assert (len(await everything(log, place(tenant))), await everything(log, other)) == (1, [])

    async def test_ids_belong_to_a_user_and_a_tenant(self, log: Log, tenant: str) -> None:
        """Two users may use one id, and so may one name in two tenants."""
        answers = await together(
            log,
            [said(place(tenant), "a", "x"), said(place(tenant), "b", "x", BOB), said(place(tenant + "2"), "c", "x")],
        )

        assert [isinstance(a, Appended) and a.is_duplicate for a in answers] == [False, False, False]

    async def test_a_users_last_thousand_ids_are_kept(self, log: Log, tenant: str) -> None:
        """A thousand commands later the first is still known, and its key lives for at least ten minutes."""
        commands = [said(place(tenant), str(n), f"c-{n}") for n in range(1_000)]
        first = await together(log, commands)
        again = await together(log, commands)

        key = log.keys.idempotency(log.keys.of(place(tenant)).partition, tenant, ALICE)
        assert again == [a._replace(is_duplicate=True, is_first=False) for a in first if isinstance(a, Appended)]
        assert await log.redis.ttl(key) > 600

    async def test_a_first_id_is_known_whatever_the_rate(self, server: RedisServer, tenant: str) -> None:
        """Two generations are full: the first id is still known, a new one is refused and not stored, memory is bounded."""
        log = await Log.open(server.url, limits=Limits(idempotency_entries=10))
        try:
            first, second = ([said(place(tenant), "x", f"{g}-{n}") for n in range(10)] for g in "ab")
            await together(log, first)
            await together(log, second)
            known = await together(log, first[:1] + second[:1])
            refused = await together(log, [said(place(tenant), "x", f"c-{n}") for n in range(3)])
            other = await together(log, [said(place(tenant), "x", "c-0", BOB)])
            head = (await log.look(place(tenant))).head.seq
            key = log.keys.idempotency(log.keys.of(place(tenant)).partition, tenant, ALICE)
            size = await log.redis.hlen(key) + await log.redis.hlen(key + b":old")
            lives = await log.redis.ttl(key), await log.redis.ttl(key + b":old")
            await log.redis.expire(key + b":old", 0)  # as the window's end does
            later = await together(log, [said(place(tenant), "x", "c-0"), *second[:1]])
        finally:
            await log.close()

        assert _duplicates(known) == [True, True]
        assert [type(a) for a in refused] == [CommandIdsFull] * 3
        assert _duplicates(other) == [False]
        assert (head, size) == (21, 20)
        assert lives[0] > 600 >= lives[1] > 590
        assert _duplicates(later) == [False, True]

    async def test_effects_of_handlers_are_never_refused_for_their_number(
        self, server: RedisServer, tenant: str
    ) -> None:
        """Theirs turn over by their number alone, and neither a user's ids nor theirs make room for others."""
        log = await Log.open(server.url, limits=Limits(idempotency_entries=10))
        agent = Actor("agent", "alice")
        try:
            await together(log, [said(place(tenant), "x", f"u-{n}") for n in range(10)])
            for generation in "abc":
                await together(log, [said(place(tenant), "x", f"r/{generation}{n}", agent) for n in range(10)])
            known = await together(log, [said(place(tenant), "x", "u-0"), said(place(tenant), "x", "r/c0", agent)])
            key = log.keys.idempotency(log.keys.of(place(tenant)).partition, tenant, agent)
            size = await log.redis.hlen(key) + await log.redis.hlen(key + b":old")
        finally:
            await log.close()

        assert _duplicates(known) == [True, True]
        assert size == 10

    async def test_a_user_and_an_agent_of_one_name_share_no_ids(self, log: Log, tenant: str) -> None:
        """Kind and id tell whose command it is: the second is stored, not taken for the first again or for a conflict."""
        people = [Actor("user", "demo"), Actor("agent", "demo"), Actor("system", "demo")]
        same = await together(log, [said(place(tenant), "x", "c-1", one) for one in people])
        other = await together(log, [said(place(tenant), one.kind, "c-2", one) for one in people])

        assert _duplicates(same) == _duplicates(other) == [False] * 3


def _duplicates(answers: list[Appended | StreamsError]) -> list[bool]:
    return [isinstance(a, Appended) and a.is_duplicate for a in answers]


GUARD_ROWS = [
    # operator, value, present (None: nothing), holds
    ("eq", "a", "a", True), ("eq", "a", "b", False), ("eq", "a", None, False), ("eq", "", None, True), ("eq", "", "", True),
    ("ne", "a", "b", True), ("ne", "a", "a", False), ("ne", "a", None, True), ("ne", "", None, False),
    ("free_or", "a", None, True), ("free_or", "a", "a", True), ("free_or", "a", "b", False), ("free_or", "a", "", False),
    ("in", "a,b", "a", True), ("in", "a,b", "b", True), ("in", "a,b", "c", False), ("in", "a,b", None, False),
    ("in", "ab,c", "a", False), ("in", "a.b", "axb", False),
    ("lt", "5", "4", True), ("lt", "5", "5", False), ("lt", "5", "10", False), ("lt", "1", None, True), ("lt", "0", None, False),
    ("newer", "10-0", "9-5", True), ("newer", "9-10", "9-9", True), ("newer", "9-5", "9-5", False), ("newer", "9-5", "10-0", False),
    ("newer", "1-0", None, True), ("newer", "0-0", None, False),
    ("le", "5", "5", True), ("le", "5", "6", False), ("le", "0", None, True), ("le", "10", "9", True),
]  # fmt: skip # a table


class GuardCases:
    """Conditions that are held against what is there, and what they leave behind."""

    @pytest.mark.parametrize(("operator", "value", "present", "holds"), GUARD_ROWS)
    async def test_every_operator(
        self, log: Log, tenant: str, operator: str, value: str, present: str | None, holds: bool
    ) -> None:
        """A check that holds appends; one that does not says what is there and stores nothing."""
        if present is not None:
            await log.append(said(place(tenant), guards=(Guard("run:r1", sets=(("state", present),)),)))
        before = len(await everything(log, place(tenant)))

        answer = await outcome(
            log, said(place(tenant), guards=(Guard("run:r1", ((("state", operator, value)),), (("seen", "1"),)),))
        )

        after = len(await everything(log, place(tenant)))
        seen = await log.redis.hget(log.keys.guard(place(tenant), "run:r1"), "seen")
        if holds:
            assert isinstance(answer, Appended)
            assert (after, seen) == (before + 1, b"1")
        else:
            assert isinstance(answer, GuardRefused)
            assert (answer.field, answer.present) == ("state", present)
            assert (after, seen) == (before, None)

    async def test_all_guards_are_checked_before_anything_is_written(self, log: Log, tenant: str) -> None:
        """The second guard fails: the first's effects, the seq and the command id are not there either."""
        guards = (
            Guard("a", sets=(("x", "1"),), increments=("n",)),
            Guard("b", (("state", "eq", "open"),), (("state", "done"),)),
        )
        refused = await outcome(log, said(place(tenant), "hi", "c-1", guards=guards))
        await log.append(said(place(tenant), "open", guards=(Guard("b", sets=(("state", "open"),)),)))
        stored = await log.append(said(place(tenant), "hi", "c-1", guards=guards))

        assert isinstance(refused, GuardRefused)
        assert (stored.seq, stored.is_duplicate, stored.results) == (2, False, (1,))

    async def test_effects_name_the_event_and_count(self, log: Log, tenant: str) -> None:
        """`@id` and `@seq` stand for the new event's; increments are told in their order, decrements are not."""
        guard = Guard("g", (), (("at", "@id"), ("number", "@seq"), ("plain", "x")), ("a", "b"), ("c",), ttl_s=100)
        first = await log.append(said(place(tenant), guards=(guard, Guard("h", increments=("z",)))))
        second = await log.append(said(place(tenant), "two", "c-2", guards=(guard, Guard("h", increments=("z",)))))
        again = await log.append(said(place(tenant), "two", "c-2", guards=(guard, Guard("h", increments=("z",)))))

        key = log.keys.guard(place(tenant), "g")
        assert (first.results, second.results) == ((1, 1, 1), (2, 2, 2))
        assert again == second._replace(is_duplicate=True)
        assert await log.redis.hgetall(key) == {
            b"at": second.id.encode(), b"number": b"2", b"plain": b"x", b"a": b"2", b"b": b"2", b"c": b"-2",
        }  # fmt: skip # a table
        assert 90 < await log.redis.ttl(key) <= 100

    async def test_a_guard_may_name_the_hash_of_the_new_event(self, log: Log, tenant: str) -> None:
        """A name ending in `@id` is set under the event's own ID."""
        appended = await log.append(said(place(tenant), guards=(Guard("message:@id", sets=(("by", "alice"),)),)))

        assert await log.redis.hgetall(log.keys.guard(place(tenant), f"message:{appended.id}")) == {b"by": b"alice"}

    async def test_a_duplicate_is_answered_before_guards_are_held(self, log: Log, tenant: str) -> None:
        """The command that made the state, sent again, gets its first answer, not "already done"."""
        guard = Guard("r", (("state", "eq", ""),), (("state", "done"),))
        first = await log.append(said(place(tenant), "hi", "c-1", guards=(guard,)))
        again = await log.append(said(place(tenant), "hi", "c-1", guards=(guard,)))
        other = await outcome(log, said(place(tenant), "hi", "c-2", guards=(guard,)))

        assert again == first._replace(is_duplicate=True, is_first=False)
        assert isinstance(other, GuardRefused)

    async def test_of_two_in_one_batch_one_wins(self, log: Log, tenant: str) -> None:
        """Guards see what the entry before them in the same batch has set."""
        guard = Guard("r", (("answer", "eq", ""),), (("answer", "@id"),))

        answers = await together(log, [said(place(tenant), str(n), guards=(guard,)) for n in range(5)])

        assert [type(answer) for answer in answers] == [Appended] + [GuardRefused] * 4

    async def test_guards_hold_in_the_live_lane(self, log: Log, tenant: str) -> None:
        """A live entry may be conditional too; it counts no seq."""
        guard = Guard("r", (("n", "lt", "1"),), (("at", "@seq"),), ("n",))
        first, second = await together(log, [said(place(tenant), guards=(guard,), lane=Lane.LIVE) for _ in range(2)])

        assert isinstance(first, Appended)
        assert first.results == (1,)
        assert isinstance(second, GuardRefused)
        assert await log.redis.hget(log.keys.guard(place(tenant), "r"), "at") == b"0"


class OpenTextCases:
    """The text kept of an answer in progress."""

    async def _delta(self, log: Log, tenant: str, **open_text: object) -> None:
        kept = OpenText("m1", "r1", 1, **open_text)  # type: ignore[arg-type]
        await log.append(said(place(tenant), lane=Lane.LIVE, open_text=kept))

    async def test_text_is_extended_by_code_points_whatever_their_bytes(self, log: Log, tenant: str) -> None:
        """Offsets count code points: an emoji of four bytes, or of several code points, moves the end by as many."""
        parts = ["Grüße ", "👩‍👩‍👧", "🎉 日本", 'quo"te\\ and \n newline']
        at = 0
        for text in parts:
            await self._delta(log, tenant, offset=at, end=at + len(text), text=text)
            at += len(text)

        kept = await log.replay.open_texts(place(tenant))
        assert kept["m1:text"] == "".join(parts)
        assert kept["m1:text:n"] == str(len("".join(parts)))
        assert kept["m1"] == '{"run_id":"r1","attempt":1}'

    async def test_a_repeated_or_early_delta_changes_nothing(self, log: Log, tenant: str) -> None:
        """Only a delta that begins where the text ends extends it."""
        await self._delta(log, tenant, offset=0, end=2, text="ab")
        await self._delta(log, tenant, offset=0, end=2, text="ab")
        await self._delta(log, tenant, offset=3, end=4, text="x")
        await self._delta(log, tenant, offset=2, end=3, text="c")

        assert (await log.replay.open_texts(place(tenant)))["m1:text"] == "abc"

    async def test_tracks_are_apart_and_a_reset_cuts(self, log: Log, tenant: str) -> None:
        """Reasoning is a track of its own; a reset keeps the text up to `end` and drops the reasoning."""
        await self._delta(log, tenant, offset=0, end=3, text="🎉bc")
        await self._delta(log, tenant, track="reasoning", offset=0, end=2, text="hm")
        both = await log.replay.open_texts(place(tenant))
        await self._delta(log, tenant, end=1, text="🎉", is_reset=True)
        cut = await log.replay.open_texts(place(tenant))
        await self._delta(log, tenant, offset=1, end=2, text="!")

        assert (both["m1:text"], both["m1:reasoning"]) == ("🎉bc", "hm")
        assert (cut["m1:text"], cut["m1:text:n"], "m1:reasoning" in cut) == ("🎉", "1", False)
        assert (await log.replay.open_texts(place(tenant)))["m1:text"] == "🎉!"

    async def test_the_end_drops_what_was_kept_of_this_message_alone(self, log: Log, tenant: str) -> None:
        """The event that ends an answer removes its text in the same step; other answers stay open."""
        await self._delta(log, tenant, offset=0, end=2, text="ab")
        other = OpenText("m2", "r2", 1, end=1, text="x")
        await log.append(said(place(tenant), lane=Lane.LIVE, open_text=other))
        await log.append(said(place(tenant), open_text=OpenText("m1", "r1", 1)))

        assert set(await log.replay.open_texts(place(tenant))) == {"m2", "m2:text", "m2:text:n"}


class EpochCases:
    """One life of a stream, and how its end shows."""

    async def test_the_epoch_is_fixed_by_the_first_look(self, log: Log, tenant: str) -> None:
        """An empty channel's cursor stays good when the first event comes."""
        empty = await log.look(place(tenant))
        await log.append(said(place(tenant)))
        later = await log.look(place(tenant), "0")

        assert (empty.head, empty.floor) == (Position("0", 0), Position("0", 0))
        assert later.epoch == empty.epoch
        assert judge(Cursor("0", 0, empty.epoch), later) == Resumable(Position("0", 0))

    async def test_the_epoch_is_fixed_by_the_first_append(self, log: Log, tenant: str) -> None:
        """Looks and appends agree on it, and channels have epochs of their own."""
        await log.append(said(place(tenant)))
        await log.append(said(place(tenant, "2")))
        looks = [await log.look(place(tenant)) for _ in range(2)]

        assert looks[0].epoch == looks[1].epoch != (await log.look(place(tenant, "2"))).epoch

    @pytest.mark.parametrize("first", ["look", "append"])
    async def test_a_vanished_stream_begins_a_new_epoch(self, log: Log, tenant: str, first: str) -> None:
        """The meta hash counts events that are gone: whoever comes first begins another life at 1."""
        await log.append(said(place(tenant)))
        before = await log.look(place(tenant))
        await log.redis.delete(log.keys.of(place(tenant)).stream)

        if first == "look":
            await log.look(place(tenant))
        appended = await log.append(said(place(tenant)))
        after = await log.look(place(tenant), before.head.id)

        assert (appended.seq, after.head.seq) == (1, 1)
        assert after.epoch != before.epoch
        assert judge(Cursor(before.head.id, 1, before.epoch), after) == Gap(GapReason.EPOCH_CHANGED)

    @pytest.mark.parametrize("first", ["look", "append", "again"])
    async def test_a_command_of_a_life_that_is_over_is_stored_anew(self, log: Log, tenant: str, first: str) -> None:
        """Its event has vanished with its stream: a receipt must not name it. From then on its id counts again."""
        sent = said(place(tenant), "x", "c-1")
        await log.append(sent)
        await log.redis.delete(log.keys.of(place(tenant)).stream)

        if first == "look":
            await log.look(place(tenant))
        elif first == "append":
            await log.append(said(place(tenant)))
        answers = await together(log, [sent, sent])

        found = await everything(log, place(tenant))
        assert _duplicates(answers) == [False, True]
        assert [entry.id.decode() for entry in found][-1:] == [a.id for a in answers if isinstance(a, Appended)][:1]
        assert seqs(found) == list(range(1, 3 if first == "append" else 2))

    @pytest.mark.parametrize("lost", ["meta", "trimmed", "all trimmed"])
    async def test_a_command_whose_event_is_there_or_was_trimmed_is_a_duplicate(
        self, log: Log, tenant: str, lost: str
    ) -> None:
        """Neither a new epoch over the same events nor a trim, even of all of them, makes room for it a second time."""
        sent = said(place(tenant), "x", "c-1")
        first = await log.append(sent)
        last = await log.append(said(place(tenant)))
        if lost == "meta":
            await log.redis.delete(log.keys.of(place(tenant)).meta)
        elif lost == "trimmed":
            await log.replay.trim(place(tenant), first.id)
        else:
            await log.redis.xtrim(log.keys.of(place(tenant)).stream.decode(), maxlen=0, approximate=False)

        assert await log.append(sent) == first._replace(is_duplicate=True, is_first=False)
        assert (await log.append(said(place(tenant)))).seq == last.seq + 1

    @pytest.mark.parametrize("first", ["look", "append"])
    async def test_a_stream_without_its_meta_goes_on_under_a_new_epoch(self, log: Log, tenant: str, first: str) -> None:
        """The entries know their seq: it goes on, nothing that is there is lost, and what was trimmed stays named."""
        ids = [(await log.append(said(place(tenant), str(n)))).id for n in range(4)]
        before = await log.look(place(tenant))
        await log.replay.trim(place(tenant), ids[1])
        await log.redis.delete(log.keys.of(place(tenant)).meta)

        if first == "look":
            await log.look(place(tenant))
        appended = await log.append(said(place(tenant)))
        after = await log.look(place(tenant), "0")

        assert (appended.seq, after.floor.seq) == (5, 2)
        assert after.epoch != before.epoch
        assert judge(Cursor("0"), after) == Gap(GapReason.TRIMMED, 1, 2)
        assert seqs(await everything(log, place(tenant))) == [3, 4, 5]

    async def test_a_look_alone_sees_that_a_stream_has_vanished(self, log: Log, tenant: str) -> None:
        """Nobody has written since: a missing key is a new epoch, never "empty, up to date"."""
        appended = await log.append(said(place(tenant)))
        before = await log.look(place(tenant))
        await log.redis.delete(log.keys.of(place(tenant)).stream)

        after = await log.look(place(tenant), appended.id)

        assert (after.head, after.floor) == (Position("0", 0), Position("0", 0))
        assert judge(Cursor(appended.id, 1, before.epoch), after) == Gap(GapReason.EPOCH_CHANGED)
        assert judge(Cursor(appended.id), after) == Gap(GapReason.CURSOR_UNKNOWN)


class RetentionCases:
    """Trimming moves the floor."""

    async def test_a_trim_moves_the_floor_and_cursors_are_judged_by_it(self, log: Log, tenant: str) -> None:
        """At the floor: unbroken. Before it: a gap with its range. Nobody skips silently."""
        ids = [(await log.append(said(place(tenant), str(n)))).id for n in range(6)]

        dropped = await log.replay.trim(place(tenant), ids[2])
        again = await log.replay.trim(place(tenant), ids[2])

        at_floor, before = await log.look(place(tenant), ids[2]), await log.look(place(tenant), ids[0])
        assert (dropped, again) == (3, 0)
        assert at_floor.floor == Position(ids[2], 3)
        assert judge(Cursor(ids[2], 3), at_floor) == Resumable(Position(ids[2], 3))
        assert judge(Cursor(ids[0], 1), before) == Gap(GapReason.TRIMMED, 2, 3)
        assert seqs(await log.page(place(tenant), ids[2])) == [4, 5, 6]

    async def test_a_channel_trimmed_to_nothing_is_not_a_new_one(self, log: Log, tenant: str) -> None:
        """Head and floor are the last event's; the next gets the next seq in the same epoch."""
        last = (await together(log, [said(place(tenant), str(n)) for n in range(3)]))[-1]
        assert isinstance(last, Appended)
        before = await log.look(place(tenant))
        await log.replay.trim(place(tenant), last.id)
        empty = await log.look(place(tenant), last.id)

        assert (empty.head, empty.floor) == (Position(last.id, 3), Position(last.id, 3))
        assert (await log.append(said(place(tenant)))).seq == 4
        assert (await log.look(place(tenant))).epoch == before.epoch

    async def test_pages_go_both_ways_and_are_bounded(self, log: Log, tenant: str) -> None:
        """Reading stays bounded: a page has what was asked at most, 500 unless said."""
        await together(log, [said(place(tenant), str(n)) for n in range(1_100)])
        entries = await everything(log, place(tenant))

        assert len(await log.page(place(tenant))) == 500
        assert seqs(await log.page(place(tenant), entries[9].id.decode(), 3)) == [11, 12, 13]
        assert seqs(await log.page(place(tenant), "0", 100, entries[4].id.decode())) == [1, 2, 3, 4, 5]
        assert seqs(await log.replay.page_back(place(tenant), limit=3)) == [1100, 1099, 1098]
        assert seqs(await log.replay.page_back(place(tenant), entries[4].id.decode(), 3)) == [4, 3, 2]
        assert seqs(await log.replay.page_from(place(tenant), entries[4].id.decode(), 2)) == [5, 6]
        assert len(await log.replay.page_back(place(tenant))) == 500


class RefusalCases:
    """An entry that Redis refuses fails alone, and leaves nothing half-done."""

    @pytest.mark.parametrize("broken", ["stream", "meta", "idempotency", "guard"])
    async def test_a_refused_entry_harms_no_other_of_its_batch(self, log: Log, tenant: str, broken: str) -> None:
        """One key is of another type: its entry is unavailable, the neighbours' are stored, rung and without a hole."""
        channel, other = place(tenant), neighbour(log, place(tenant))
        keys = log.keys.of(channel)
        wrong = {
            "stream": keys.stream, "meta": keys.meta, "guard": log.keys.guard(channel, "g"),
            "idempotency": log.keys.idempotency(keys.partition, tenant, ALICE),
        }  # fmt: skip # a table
        await log.redis.set(wrong[broken], "not what it should be")
        guard = Guard("g", (("x", "eq", ""),))
        poisoned = said(channel, "bad", "c-1", guards=(guard,))

        answers = await together(log, [said(other, "a", actor=BOB), poisoned, said(other, "b", actor=BOB)])
        await log.redis.delete(wrong[broken])
        healed = await log.append(poisoned)
        ((_, bell),) = await log.redis.xrevrange(log.keys.bell(keys.partition), "+", "-", count=1)

        assert [type(answer) for answer in answers] == [Appended, LogUnavailable, Appended]
        assert seqs(await everything(log, other)) == [1, 2]
        assert (healed.seq, healed.is_duplicate) == (1, False)
        assert bell[b"events"].split() == [channel.path.encode()]

    async def test_a_refused_entry_leaves_no_hole(self, log: Log, tenant: str) -> None:
        """Redis refuses an entry in the middle of a channel's batch: the seqs around it are dense."""
        drafts = [said(place(tenant), str(n), guards=(Guard("ok"),)) for n in range(3)]
        drafts[1] = said(place(tenant), "bad", guards=(Guard("broken", (("x", "lt", "1"),)),))
        await log.redis.hset(log.keys.guard(place(tenant), "broken"), "x", "no number")

        answers = await together(log, drafts)

        assert [type(answer) for answer in answers] == [Appended, LogUnavailable, Appended]
        assert seqs(await everything(log, place(tenant))) == [1, 2]

    async def test_a_forgotten_script_is_sent_again(self, log: Log, tenant: str) -> None:
        """SCRIPT FLUSH, as after a restart: appends and looks go on without an error, in order."""
        await log.append(said(place(tenant)))
        await log.redis.script_flush()
        look = await log.look(place(tenant))
        await log.redis.script_flush()

        answers = await together(log, [said(place(tenant), str(n)) for n in range(1_200)])

        assert look.head.seq == 1
        assert [a.seq for a in answers if isinstance(a, Appended)] == list(range(2, 1_202))

    async def test_out_of_memory_is_unavailable_and_leaves_nothing(self, tenant: str, own_server: RedisServer) -> None:
        """With noeviction a full Redis refuses: known and new channels alike, and the same ids succeed afterwards."""
        log = await Log.open(own_server.url)
        try:
            await log.append(said(place(tenant), "before", "c-0"))
            await on_every_server(log, "CONFIG", "SET", "maxmemory", "1mb")
            known, new = said(place(tenant), "x", "c-1"), said(neighbour(log, place(tenant)), "x", "c-2")
            live = said(place(tenant), lane=Lane.LIVE)
            full = [*await together(log, [known]), *await together(log, [new]), *await together(log, [live])]
            await on_every_server(log, "CONFIG", "SET", "maxmemory", "0")
            seen = [len(await everything(log, draft.channel)) for draft in (known, new)]
            later = await together(log, [known, new, live])
            duplicate = await log.append(said(place(tenant), "before", "c-0"))
        finally:
            await log.close()

        assert [type(answer) for answer in full] == [LogUnavailable] * 3
        assert seen == [1, 0]
        assert [(a.seq, a.is_duplicate) for a in later if isinstance(a, Appended)] == [
            (2, False),
            (1, False),
            (0, False),
        ]
        assert duplicate.is_duplicate

    async def test_a_full_redis_means_the_same_on_every_way(self, tenant: str, own_server: RedisServer) -> None:
        """Appends, calls, scripts, pipelines, transactions and groups are told that Redis cannot, and go on after.

        Leases are taken all the same: the keeper that makes room works under one.
        """
        log = await Log.open(own_server.url)
        try:
            await on_every_server(log, "CONFIG", "SET", "maxmemory", "1kb")
            full = [await failure(way) for way in ways(log, place(tenant))]
            lease = full.pop(LEASE)
            await on_every_server(log, "CONFIG", "SET", "maxmemory", "0")
            after = [await failure(way) for way in ways(log, place(tenant))]
        finally:
            await log.close()

        assert [type(error) for error in full] == [LogUnavailable] * len(full)
        assert all("OOM" in str(error) for error in full)
        assert lease is None
        assert after == [None] * len(after)

    async def test_a_missing_right_means_the_same_on_every_way(self, tenant: str, own_server: RedisServer) -> None:
        """A user that may not write to streams and hashes: the log is unavailable until an operator grants it."""
        log = await Log.open(own_server.url)
        try:
            await on_every_server(log, "ACL", "SETUSER", "default", "-xadd", "-hset", "-xgroup")
            refused = [await failure(way) for way in ways(log, place(tenant))]
            await on_every_server(log, "ACL", "SETUSER", "default", "+@all")
            after = [await failure(way) for way in ways(log, place(tenant))]
        finally:
            await log.close()

        assert [isinstance(error, LogUnavailable) for error in refused] == [True] * len(refused)
        assert after == [None] * len(refused)


class ServerCases:
    """The log refuses servers it cannot use, and remembers its first start."""

    async def test_an_evicting_policy_is_refused(self, own_server: RedisServer) -> None:
        """An evicted stream is lost history: the error says which setting, and to what."""
        log = await Log.open(own_server.url)
        await on_every_server(log, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        await log.close()

        with pytest.raises(ConfigurationRefused, match=r"allkeys-lru.*noeviction"):
            await Log.open(own_server.url)

    async def test_the_partitions_are_fixed_at_the_first_start(self, own_server: RedisServer) -> None:
        """Another number would hide every channel."""
        await (await Log.open(own_server.url, partitions=4)).close()

        with pytest.raises(ConfigurationRefused, match="begun with 4"):
            await Log.open(own_server.url, partitions=8)
        await (await Log.open(own_server.url, partitions=4)).close()

    async def test_what_is_not_there_is_unavailable(self) -> None:
        """No server at the address: one clear error, at once."""
        with pytest.raises(LogUnavailable, match="could not be reached"):
            await Log.open("redis://127.0.0.1:1/0")

    async def test_durability_that_this_server_cannot_give_is_refused(self, own_server: RedisServer) -> None:
        """Asked for `replicated` without a replica, or `fsync` without an append-only file."""
        with pytest.raises(ConfigurationRefused, match="replica"):
            await Log.open(own_server.url, durability={Kind.TEAM: Durability.REPLICATED})
        with pytest.raises(ConfigurationRefused, match="appendonly yes"):
            await Log.open(own_server.url, durability={Kind.TEAM: Durability.FSYNC})


class DirectoryCases:
    """The directory of channels by tenant and kind."""

    async def test_a_channel_is_listed_with_its_first_event(self, log: Log, tenant: str) -> None:
        """Not when it is looked at, nor by a signal of its live lane; with the newest seq and the minute it was active in."""
        directory = ChannelDirectory(log)
        await log.look(place(tenant))
        await log.append(said(place(tenant), lane=Lane.LIVE))
        before = await directory.channels(tenant, Kind.CONVERSATION)
        first = await log.append(said(place(tenant)))
        await together(log, [said(place(tenant), str(n)) for n in range(9)])

        assert before == []
        assert await directory.channels(tenant, Kind.CONVERSATION) == [
            ListedChannel(place(tenant), 10, 10, ms_of_id(first.id))
        ]

    async def test_events_within_a_minute_write_to_it_once(self, own_server: RedisServer, tenant: str) -> None:
        """A busy channel costs the directory nothing; a minute later it is put in again, should it have been lost."""
        log = await Log.open(own_server.url)
        try:
            for n in range(50):
                await log.append(said(place(tenant), str(n)))
            counts = await count_commands(log.calls_of(place(tenant)))
            meta, partition = log.keys.of(place(tenant)).meta, log.keys.of(place(tenant)).partition
            listed = int(await log.redis.hget(meta, "listed") or 0)
            await log.redis.delete(log.keys.directory(partition, tenant, Kind.CONVERSATION))
            await log.redis.hset(meta, "listed", str(listed - 60_000))
            again = await log.append(said(place(tenant)))
            found = await ChannelDirectory(log).channels(tenant, Kind.CONVERSATION)
        finally:
            await log.close()

        assert counts["zadd"] == 1
        assert found == [ListedChannel(place(tenant), 51, 51, ms_of_id(again.id))]

    async def test_pages_go_on_where_the_last_one_ended(self, log: Log, tenant: str) -> None:
        """In the order of names over all partitions, each channel once, whatever the page's size; by prefix as well."""
        names = sorted([f"a{n:03d}" for n in range(150)] + [f"b.{n}" for n in range(30)] + ["~last", "A", "+"])
        await together(log, [said(place(tenant, name)) for name in names])
        directory = ChannelDirectory(log)

        async def walked(limit: int, **which: str) -> list[str]:
            found: list[str] = []
            while page := await directory.channels(
                tenant, Kind.CONVERSATION, limit=limit, after=(found or [""])[-1], **which
            ):
                found += [one.channel.name for one in page]
                assert len(page) <= limit
                if len(page) < limit:
                    break
            return found

        assert [await walked(limit) for limit in (1, 7, 100, 1_000)] == [names] * 4
        assert await walked(4, prefix="b.") == [name for name in names if name.startswith("b.")]
        assert await walked(4, prefix="c") == []
        one_before = await directory.channels(tenant, Kind.CONVERSATION, prefix="b.", after="a", limit=1)
        assert [one.channel.name for one in one_before] == ["b.0"]

    async def test_tenants_and_kinds_have_directories_of_their_own(self, log: Log, tenant: str) -> None:
        """A name in one is not seen in another."""
        team, stranger = Channel(tenant, Kind.TEAM, "1"), Channel(f"{tenant}x", Kind.TEAM, "1")
        await together(log, [said(channel) for channel in (place(tenant), team, stranger)])
        directory = ChannelDirectory(log)
        found = [await directory.channels(*which) for which in ((tenant, Kind.TEAM), (stranger.tenant, Kind.TEAM))]

        assert [[one.channel for one in page] for page in found] == [[team], [stranger]]
        assert await directory.channels(stranger.tenant, Kind.CONVERSATION) == []

    async def test_a_channel_that_is_gone_drops_out(self, log: Log, tenant: str) -> None:
        """And does not make a page shorter that has more behind it."""
        names = [f"{n:02d}" for n in range(40)]
        await together(log, [said(place(tenant, name)) for name in names])
        for name in names[:30]:
            await log.redis.delete(log.keys.of(place(tenant, name)).stream, log.keys.of(place(tenant, name)).meta)
        directory = ChannelDirectory(log)
        found = await directory.channels(tenant, Kind.CONVERSATION, limit=5)
        left = [
            await log.redis.zcard(log.keys.directory(partition, tenant, Kind.CONVERSATION))
            for partition in range(log.keys.partitions)
        ]

        assert [one.channel.name for one in found] == names[30:35]
        assert sum(left) < 40


class LogCases(
    AppendCases,
    IdempotencyCases,
    GuardCases,
    OpenTextCases,
    EpochCases,
    RetentionCases,
    RefusalCases,
    ServerCases,
    DirectoryCases,
):
    """All of them."""
