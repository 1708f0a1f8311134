"""Whatever happens between a client and its hub, readers get the exact sequence or an explicit gap."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from hub.client.core import Core, SocketState
from hub.client.errors import StreamBroken
from hub.client.feed import Feed, Phase, SubscribeOptions
from hub.client.feeds import Identity
from hub.client.items import Cursor, Event, Gap, Item, Reply
from hub.client.outbox import Command, Outcome
from hub.client.recovery import Again
from hub.client.wire import encode, join
from support.examples import examples
from support.model_hub import ModelHub, ModelSession, counted_ids

CHANNELS = ("conversation:a", "conversation:b", "team:c")
BUFFER = 3
EVENT = re.compile(r'\[?\{"id"')
"""The beginning of a message of events, in the model hub."""


@dataclass
class Reader:
    """One subscription, and what its reader took."""

    feed: Feed
    taken: list[Item] = field(default_factory=list)


class World:
    """A client's core and a model hub, joined by two queues that can be cut, repeated and holed."""

    def __init__(self, starts: dict[str, Cursor | None]) -> None:
        self.hub = ModelHub()
        self.core = Core(
            Identity(None, "t", "0", ("batch",)), new_id=counted_ids(), jitter=lambda: 0.5, can_refresh=False
        )
        self.session: ModelSession | None = None
        self.upstream: list[bytes] = []
        self.now = 0.0
        self.readers = {}
        self.bytes: dict[tuple[str, str, int], str] = {}
        self.outcomes: dict[str, list[Outcome]] = {}
        for channel, start in starts.items():
            feed = Feed(SubscribeOptions(channel, start, raise_gaps=False), BUFFER, lambda: None)
            self.readers[channel] = Reader(feed)
            self.core.subscribe(feed)
        self.connect()

    def connect(self) -> None:
        self.session = ModelSession(self.hub)
        self.core.open("token", self.now)

    def flush(self) -> None:
        self.upstream += join(self.core.flush(), self.core.limit_bytes)

    def up(self) -> None:
        """The client's oldest message reaches the hub."""
        self.flush()
        if self.upstream:
            self.session.receive(self.upstream.pop(0).decode())
            self.remember()

    def remember(self) -> None:
        for channel, log in self.hub.logs.items():
            for _, seq, text in log.events:
                self.bytes[channel, log.epoch, seq] = text

    def down(self) -> None:
        """The hub's oldest message reaches the client."""
        if self.session.out:
            self.core.receive(self.session.out.pop(0), self.now)
            if self.core.broken:
                self.cut()

    def pump(self, rounds: int) -> None:
        for _ in range(rounds):
            self.up()
            self.down()

    def cut(self) -> None:
        self.session.leave()
        self.upstream.clear()
        verdict = self.core.lost(None, self.now)
        assert isinstance(verdict, Again)
        self.now += verdict.delay_s
        self.connect()

    def repeat(self) -> None:
        """An event arrives twice (what a hub's bug or a proxy might do)."""
        if self.session.out and EVENT.match(self.session.out[0]):
            self.session.out.insert(0, self.session.out[0])

    def skip(self) -> None:
        """The hub forgets to send an event."""
        if self.session.out and EVENT.match(self.session.out[0]):
            self.session.out.pop(0)

    def trim(self, channel: str, keep: int) -> None:
        self.hub.trim(channel, keep)

    def lose_stream(self, channel: str) -> None:
        self.hub.flush(channel)

    def append(self, channel: str, count: int = 1) -> None:
        for _ in range(count):
            self.hub.append(channel, "grüße, “𝄞”")
        self.remember()

    def command(self, channel: str) -> None:
        command_id = f"cmd{len(self.outcomes)}"
        self.outcomes[command_id] = []
        wire = encode({"type": "chat.message", "id": command_id, "channel": channel, "payload": {"text": command_id}})
        self.core.submit(Command(command_id, wire, channel, self.outcomes[command_id].append))

    def later(self) -> None:
        """The hub will put off the newest command once."""
        if self.outcomes:
            self.hub.later[f"cmd{len(self.outcomes) - 1}"] = 1

    def take(self, channel: str, count: int = 1) -> None:
        reader = self.readers[channel]
        for _ in range(min(count, len(reader.feed.items))):
            reader.taken.append(self.core.feeds.take(reader.feed))

    def tick(self) -> None:
        self.now += 0.01
        self.core.tick(self.now)

    def settle(self) -> None:
        """No more faults: everything under way arrives, and one event more, which shows whether the last was skipped."""
        self.hub.later.clear()
        for channel in self.readers:
            self.append(channel)
        for _ in range(10_000):
            before = self.core.broken
            self.up()
            self.down()
            self.tick()
            for channel in self.readers:
                self.take(channel)
            idle = not (self.session.out or self.upstream or self.core.outgoing or self.core.outbox or before)
            if (
                idle
                and self.core.socket_state is SocketState.READY
                and not any(r.feed.items for r in self.readers.values())
            ):
                return
        raise AssertionError("the client never came to rest")


def check_reader(world: World, channel: str, start: Cursor | None) -> None:
    """The reader took the log's own sequence, each byte of it, with holes only where a gap stands."""
    expected: int | None = None if start is None else start.seq
    last_epoch = None
    for item in world.readers[channel].taken:
        if isinstance(item, Gap):
            expected, last_epoch = item.head.seq, item.head.epoch
        elif isinstance(item, Event):
            assert expected is None or item.seq == expected + 1
            expected, last_epoch = item.seq, item.epoch
            assert item.raw.decode() == world.bytes[channel, item.epoch, item.seq]
            assert json.loads(item.raw)["id"] == item.id
    log = world.hub.log(channel)
    if expected is not None and last_epoch in (None, log.epoch):
        assert expected == log.head[1]


def check_commands(world: World, flushed: bool) -> None:
    """Each command settled exactly once, and was stored exactly once."""
    for command_id, outcomes in world.outcomes.items():
        assert [type(outcome) for outcome in outcomes] == [Reply], command_id
    if not flushed:
        stored = [json.loads(text)["payload"]["text"] for (_, _, _), text in world.bytes.items()]
        ours = [text for text in stored if text.startswith("cmd")]
        assert sorted(ours) == sorted(world.outcomes)


channels = st.sampled_from(CHANNELS)
steps = st.one_of(
    st.tuples(st.just("pump"), st.integers(1, 12)),
    st.tuples(st.just("pump"), st.integers(1, 12)),
    st.tuples(st.sampled_from(["up", "down", "cut", "repeat", "skip", "later", "tick"])),
    st.tuples(st.just("append"), channels, st.integers(1, 9)),
    st.tuples(st.just("take"), channels, st.integers(1, 9)),
    st.tuples(st.just("command"), channels),
    st.tuples(st.just("trim"), channels, st.integers(0, 3)),
    st.tuples(st.just("lose_stream"), channels),
)
starts = st.fixed_dictionaries({channel: st.sampled_from([None, Cursor("0"), Cursor("0", 0)]) for channel in CHANNELS})


@examples(300)
@given(starts=starts, script=st.lists(steps, min_size=25, max_size=120))
def test_any_interleaving_gives_the_exact_sequence_or_a_gap(starts, script):
    """Cuts, repeats, holes, trims and lost streams in any order: exact sequence or explicit gap, commands once."""
    world = World(starts)

    for step in script:
        getattr(world, step[0])(*step[1:])
    world.settle()

    for channel, start in starts.items():
        check_reader(world, channel, Cursor("0", 0) if start is not None else None)
    check_commands(world, flushed=any(step[0] == "lose_stream" for step in script))


@given(counts=st.lists(st.integers(1, 40), min_size=1, max_size=6))
def test_a_reader_that_is_behind_bounds_the_buffer(counts):
    """Nothing is taken while others wait: the buffer stays within its limit, and nothing is lost by that."""
    world = World({"conversation:a": Cursor("0")})
    feed = world.readers["conversation:a"].feed

    for count in counts:
        world.append("conversation:a", count)
        for _ in range(60):
            world.up()
            world.down()
            assert len(feed.items) <= feed.spill + 2  # the answer and the receipt are not counted
    world.settle()

    check_reader(world, "conversation:a", Cursor("0", 0))


def test_a_hub_that_keeps_skipping_is_reported():
    """A hole that stays after every resume ends the reader with an error, never with the events past the hole."""
    world = World({"conversation:a": Cursor("0")})
    feed = world.readers["conversation:a"].feed
    world.append("conversation:a", 2)
    log = world.hub.log("conversation:a")
    del log.events[0]

    for _ in range(100):
        world.up()
        world.down()

    assert feed.phase is Phase.ENDED
    assert isinstance(feed.error, StreamBroken)
    assert not any(isinstance(item, Event) for item in feed.items)
