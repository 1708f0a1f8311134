"""The joint between replay and live: whatever the interleaving, each event once, in order, none left out."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from hub.protocol.subscription import Phase, SubscriptionState


@dataclass
class World:
    """A log, a tail that stands somewhere in it, and one subscription; events are their own seqs."""

    log_head: int = 0
    tail_seq: int = 0
    held: list[int] = field(default_factory=list)
    delivered: list[int] = field(default_factory=list)
    sub: SubscriptionState[None, None] = field(
        default_factory=lambda: SubscriptionState(None, None, wants_presence=False)
    )

    def append(self, count: int) -> None:
        self.log_head += count

    def tail_reads(self, count: int) -> None:
        """The tail reads up to `count` events and offers them."""
        last = min(self.log_head, self.tail_seq + count)
        if last == self.tail_seq:
            return
        first, self.tail_seq = self.tail_seq + 1, last
        self.held = (self.held + list(range(first, last + 1)))[-3:]
        part = self.sub.offer(first, last, f"{last}-0")
        if part is not None:
            self.delivered += list(range(first, last + 1))[part:]

    def page(self, count: int) -> None:
        """A catch-up reads one page and tries to join, as `Recovery.read_on` does."""
        if self.sub.phase is not Phase.CATCHING_UP:
            return
        oldest = self.held[0] if self.held else self.tail_seq + 1
        if self.sub.can_join(self.tail_seq, oldest):
            rest = [seq for seq in self.held if seq > self.sub.seq]
            self.delivered += rest
            if rest:
                self.sub.advance(f"{rest[-1]}-0", rest[-1])
            self.sub.join()
            return
        new = list(range(self.sub.seq + 1, min(self.log_head, self.sub.seq + count) + 1))
        self.delivered += new
        if new:
            self.sub.advance(f"{new[-1]}-0", new[-1])


STEPS = st.lists(st.tuples(st.sampled_from(["append", "tail_reads", "page", "slow"]), st.integers(1, 5)), max_size=60)


@given(start=st.integers(0, 20), tail=st.integers(0, 20), head=st.integers(0, 20), steps=STEPS)
def test_every_interleaving_delivers_the_log_after_the_cursor(
    start: int, tail: int, head: int, steps: list[tuple[str, int]]
) -> None:
    """Appends, tail reads, pages and a slow socket in any order: what was delivered is the log after the cursor."""
    world = World(log_head=max(head, start, tail), tail_seq=tail)
    world.sub.begin(f"{start}-0", start)

    for step, count in steps:
        if step == "slow":
            world.sub.fall_behind()
        else:
            getattr(world, step)(count)
        assert world.delivered == list(range(start + 1, start + 1 + len(world.delivered)))

    while world.sub.phase is not Phase.LIVE or world.tail_seq < world.log_head:
        world.tail_reads(5)
        world.page(5)
    assert world.delivered == list(range(start + 1, world.log_head + 1))


@given(seq=st.integers(0, 50), first=st.integers(1, 50), length=st.integers(1, 20))
def test_a_batch_that_does_not_touch_the_position_is_never_sent(seq: int, first: int, length: int) -> None:
    """A hole sends a live subscription back to the log; what it has is passed over."""
    sub: SubscriptionState[None, None] = SubscriptionState(None, None, wants_presence=False)
    sub.begin(f"{seq}-0", seq)
    sub.join()

    part = sub.offer(first, first + length - 1, "x")

    if part is not None:
        assert first + part == seq + 1
        assert sub.seq == first + length - 1
    else:
        assert sub.seq == seq
        assert (sub.phase is Phase.CATCHING_UP) == (first > seq + 1)
