"""What a handler is: it takes one event and ends in a decision, which the subscription carries out. Pure.

A handler never acknowledges, sleeps or parks. Everything it adds to the log goes through `Effects`, which derives the
idempotency key, so handling an event again adds nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeAlias

from projections.recorded import Recorded
from streams.channel import Channel
from streams.envelope import SYSTEM, Actor, Appended, Guard
from streams.json_bytes import JsonObject


class StartFrom(StrEnum):
    """Where a handler begins that was never there before."""

    NOW = "now"
    BEGINNING = "beginning"


@dataclass(frozen=True, slots=True)
class Done:
    """The event is handled, or was none of ours."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again. `after_s` None leaves the delay to the policy; later events of the channel wait, other channels do not."""

    reason: str
    after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Park:
    """Give it up and keep it with the reason, for somebody to look at."""

    reason: str


Outcome: TypeAlias = Done | Retry | Park
DONE = Done()


@dataclass(frozen=True, slots=True)
class FailureContext:
    """What the attempts so far came to. `attempt` counts from 1 and outlives the worker."""

    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class Source:
    """The event to be handled."""

    channel: Channel
    event: Recorded

    @property
    def id(self) -> str:
        """The event's id: the `causation` of what follows from it."""
        return self.event.id

    @property
    def correlation(self) -> str:
        """The event that began it all: its own correlation, else itself."""
        found = self.event.meta.get("correlation")
        return found if isinstance(found, str) else self.event.id

    @property
    def actor(self) -> str:
        """Who caused it."""
        return str(self.event.actor.get("id", ""))

    @property
    def payload(self) -> JsonObject:
        """The payload, at its newest version."""
        return self.event.payload


class Effects(Protocol):
    """How a handler adds to the log: each append once, however often the event is handled."""

    async def append(
        self,
        channel: Channel,
        type_: str,
        payload: JsonObject,
        *,
        actor: Actor = SYSTEM,
        guards: tuple[Guard, ...] = (),
    ) -> Appended:
        """Append an event that follows from the source.

        Raises:
            GuardRefused: a guard did not hold.
            IdempotencyConflict: this handler appended something else at this place before: it is not deterministic.
            LogUnavailable: not confirmed; the event will be handled again.
        """


class EventHandler(Protocol):
    """A reaction to some types of event. One event of a channel at a time, in the channel's order."""

    @property
    def name(self) -> str:
        """Names the consumer group, metrics and keys: never change it."""

    @property
    def types(self) -> frozenset[str]:
        """The event types it wants; all must be `is_wanted` in the catalogue."""

    @property
    def start_from(self) -> StartFrom:
        """Where it begins when it is new."""

    async def handle(self, source: Source, effects: Effects) -> Outcome:
        """React. What it raises counts as a failed attempt, and the policy decides."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Delays that grow to a bound, and a bound on attempts.

    Attributes:
        attempts_max: deliveries before the work is parked. Five cover about 40 s: a Redis failover, a restarted provider.
        first_s: delay before the second attempt.
        factor: what each further delay is multiplied by.
        longest_s: no delay is longer; the channel stands still meanwhile.
    """

    attempts_max: int = 5
    first_s: float = 0.5
    factor: float = 4.0
    longest_s: float = 30.0

    def delay_s(self, attempt: int, jitter: float) -> float:
        """The delay after this attempt, in seconds. `jitter` in [0, 1) spreads it between half and the whole."""
        whole = min(self.first_s * self.factor ** max(0, attempt - 1), self.longest_s)
        return whole * (0.5 + jitter / 2)

    def decide(self, context: FailureContext, jitter: float, after_s: float | None = None) -> Retry | Park:
        """Retry with its delay, or park once the attempts are used up."""
        if context.attempt >= self.attempts_max:
            return Park(f"{context.reason} (attempt {context.attempt} of {self.attempts_max})")
        return Retry(context.reason, self.delay_s(context.attempt, jitter) if after_s is None else after_s)
