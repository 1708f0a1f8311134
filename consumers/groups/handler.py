"""The interface of handlers: each takes one event and returns a decision, which the delivery carries out.

A handler never acknowledges, sleeps or parks. It adds to the log only through `Effects`, which derives the idempotency key, so
handling an event again adds nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeAlias

from consumers.faults import Faults
from projections.recorded import Recorded
from streams.channel import Channel
from streams.envelope import SYSTEM, Actor, Appended, Draft, Guard
from streams.events.references import references
from streams.events.validation import appendable, refuse_problems
from streams.json_bytes import JsonObject
from streams.records.references import problems_of
from streams.redis.log import Log


class StartFrom(StrEnum):
    """The position a new handler starts from."""

    NOW = "now"
    BEGINNING = "beginning"


@dataclass(frozen=True, slots=True)
class Done:
    """The event is handled, or needed no reaction."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Handle the event again, after the policy's delay if `after_s` is None; later events of the channel wait meanwhile."""

    reason: str
    after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Park:
    """Give up on the event, and keep it with the reason for an operator."""

    reason: str


Outcome: TypeAlias = Done | Retry | Park
DONE = Done()


@dataclass(frozen=True, slots=True)
class FailureContext:
    """The failure of an attempt. `attempt` counts from 1 and outlives the worker."""

    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class Source:
    """The event to handle."""

    channel: Channel
    event: Recorded

    @property
    def id(self) -> str:
        """The event's id, which is the `causation` of its effects."""
        return self.event.id

    @property
    def correlation(self) -> str:
        """The first event of the chain: the event's correlation, or its own id."""
        found = self.event.meta.get("correlation")
        return found if isinstance(found, str) else self.event.id

    @property
    def actor(self) -> str:
        """The id of the actor."""
        return str(self.event.actor.get("id", ""))

    def is_by(self, user: str) -> bool:
        """True when this person is the actor; an agent of the same name is somebody else."""
        return (self.event.actor.get("kind"), self.actor) == ("user", user)

    @property
    def payload(self) -> JsonObject:
        """The payload in its newest version."""
        return self.event.payload


class Effects:
    """Appends the effects of a handler, each once: its key is derived from handler, channel, event and position.

    One is made for every attempt, so that positions count from 0 again. Keys have a slash, which ids chosen by clients cannot
    have: nobody can use up a handler's key beforehand.
    """

    def __init__(self, log: Log, faults: Faults, handler: str, source: Source) -> None:
        self._log = log
        self._faults = faults
        self._source = source
        self._prefix = f"{handler}/{source.channel.wire}/{source.id}/"
        self._count = 0

    async def append(
        self,
        channel: Channel,
        type_: str,
        payload: JsonObject,
        *,
        actor: Actor = SYSTEM,
        guards: tuple[Guard, ...] = (),
        key: str = "",
    ) -> Appended:
        """Appends an event that follows from the source; `key` names it where its position may be another one next time.

        Raises:
            InvalidPayload: the catalogue has no such event, or it names a file that is not ready in the channel.
            GuardRefused: a guard did not hold.
            IdempotencyConflict: this handler appended something else at this position before: it is not deterministic.
            LogUnavailable: not confirmed; the event will be handled again.
        """
        declared, value, data = appendable(channel, type_, payload)
        if named := [one for one in references(declared, value) if one.kind == "file"]:
            refuse_problems(await problems_of(self._log, channel, named))
        draft = Draft(
            channel,
            type_,
            data,
            actor,
            declared.lane,
            declared.version,
            command=f"{self._prefix}{key or self._count}",
            correlation=self._source.correlation,
            causation=self._source.id,
            guards=guards,
            is_wanted=declared.is_wanted,
        )
        self._count += 1
        self._faults.hit("before_append")
        appended = await self._log.append(draft)
        self._faults.hit("after_append")
        return appended


class EventHandler(Protocol):
    """Reacts to some types of event: one event of a channel at a time, in the channel's order."""

    @property
    def name(self) -> str:
        """The name of the consumer group, metrics and keys: never change it."""

    @property
    def types(self) -> frozenset[str]:
        """The event types it handles; all must be `is_wanted` in the catalogue."""

    @property
    def start_from(self) -> StartFrom:
        """The position it starts from when it is new."""

    async def handle(self, source: Source, effects: Effects) -> Outcome:
        """Reacts to the event. An exception counts as a failed attempt, and the policy decides."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Retries with growing, bounded delays and a bound on attempts. Pure: the jitter is passed in.

    Attributes:
        attempts_max: attempts before the work is parked. Five cover about 40 s: a Redis failover, a restarted provider.
        first_s: delay before the second attempt.
        factor: multiplies each further delay.
        longest_s: the longest delay, during which the channel stands still.
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
        """A retry with its delay, or parking when the attempts are used up."""
        if context.attempt >= self.attempts_max:
            return Park(f"{context.reason} (attempt {context.attempt} of {self.attempts_max})")
        return Retry(context.reason, self.delay_s(context.attempt, jitter) if after_s is None else after_s)
