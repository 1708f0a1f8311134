"""The interface of handlers: a handler takes one event and returns a decision, which the delivery carries out.

A handler never acknowledges, sleeps or parks. It appends only through `Effects`, which derives idempotency keys, so that
handling an event again appends nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeAlias

from consumers.faults import Faults
from projections.recorded import Recorded
from streams.channel import Channel
from streams.envelope import SYSTEM, Actor, Appended, Draft, Guard
from streams.events.custom import ANY_OWN, OwnEvents
from streams.events.references import references
from streams.events.validation import appendable, refuse_problems
from streams.json_bytes import JsonObject
from streams.records.references import problems_of
from streams.redis.log import Log
from streams.tracing import valid_traceparent


class StartFrom(StrEnum):
    """The position at which a new handler starts."""

    NOW = "now"
    BEGINNING = "beginning"


@dataclass(frozen=True, slots=True)
class Done:
    """The event was handled, or needed no reaction."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Handle the event again, after the policy's delay if `after_s` is None; later events of the channel wait until then."""

    reason: str
    after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Park:
    """Give up on the event, and store it with the reason for an operator."""

    reason: str


Outcome: TypeAlias = Done | Retry | Park
DONE = Done()


@dataclass(frozen=True, slots=True)
class FailureContext:
    """A failed attempt. `attempt` counts from 1 and is kept when another worker takes over."""

    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class Source:
    """The event to handle."""

    channel: Channel
    event: Recorded

    def log_fields(self) -> Mapping[str, object]:
        """Returns the fields of a log line about the event's chain."""
        return {"correlation": self.correlation, "causation": self.event.meta.get("causation", "")}

    @property
    def id(self) -> str:
        """The event's ID, which becomes the `causation` of its effects."""
        return self.event.id

    @property
    def correlation(self) -> str:
        """The ID of the first event of the chain: the event's correlation, or its own ID."""
        found = self.event.meta.get("correlation")
        return found if isinstance(found, str) else self.event.id

    @property
    def traceparent(self) -> str | None:
        """The trace that the event belongs to."""
        return valid_traceparent(self.event.meta.get("traceparent"))

    @property
    def actor(self) -> str:
        """The ID of the actor."""
        return str(self.event.actor.get("id", ""))

    def is_by(self, user: str) -> bool:
        """True if this user is the actor; an agent of the same name is a different actor."""
        return (self.event.actor.get("kind"), self.actor) == ("user", user)

    @property
    def payload(self) -> JsonObject:
        """The payload in the newest version of its type."""
        return self.event.payload


class Effects:
    """Appends the effects of a handler, each once: an idempotency key is derived from handler, channel, event and position.

    Every attempt has an object of its own, so that positions count from 0 again. The keys contain a slash, which command IDs of
    clients cannot, so no client can occupy a handler's key beforehand.
    """

    def __init__(
        self,
        log: Log,
        faults: Faults,
        handler: str,
        source: Source,
        own_events: OwnEvents = ANY_OWN,
        traceparent: str | None = None,
    ) -> None:
        self._log = log
        self._faults = faults
        self._source = source
        self._own_events = own_events
        self._traceparent = traceparent or source.traceparent
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
        """Appends an event that follows from the source.

        If its position may differ between attempts, `key` identifies it instead.

        Raises:
            InvalidPayload: the catalogue has no such event, or it names a file that is not ready in the channel.
            GuardRefused: a guard did not hold.
            IdempotencyConflict: an earlier attempt appended a different event at this position: the handler is not
                deterministic.
            LogUnavailable: the append was not confirmed; the event will be handled again.
        """
        declared, value, data = appendable(channel, type_, payload, self._own_events)
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
            traceparent=self._traceparent,
            sealed_for=self._source.event.sealed_for,
        )
        self._count += 1
        self._faults.hit("before_append")
        appended = await self._log.append(draft)
        self._faults.hit("after_append")
        return appended


class EventHandler(Protocol):
    """Reacts to some types of event. The events of a channel are passed to it one at a time and in order."""

    @property
    def name(self) -> str:
        """The name of its consumer group, in metrics and in keys; it must never change."""

    @property
    def types(self) -> frozenset[str]:
        """The event types that it handles; all must be `is_wanted` in the catalogue."""

    @property
    def start_from(self) -> StartFrom:
        """The position at which it starts when it is new."""

    async def handle(self, source: Source, effects: Effects) -> Outcome:
        """Reacts to the event. An exception counts as a failed attempt; the retry policy decides what follows."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Decides on retries: growing, bounded delays and a maximum number of attempts. Pure: the jitter is passed in.

    Attributes:
        attempts_max: attempts before the work is parked. Five cover about 40 s, such as a Redis failover or a provider's
            restart.
        first_s: delay before the second attempt, in seconds.
        factor: multiplies each further delay.
        longest_s: maximum delay, in seconds, during which the channel's later events wait.
    """

    attempts_max: int = 5
    first_s: float = 0.5
    factor: float = 4.0
    longest_s: float = 30.0

    def delay_s(self, attempt: int, jitter: float) -> float:
        """The delay after this attempt, in seconds. `jitter` in [0, 1) spreads it between half of it and all of it."""
        whole = min(self.first_s * self.factor ** max(0, attempt - 1), self.longest_s)
        return whole * (0.5 + jitter / 2)

    def decide(self, context: FailureContext, jitter: float, after_s: float | None = None) -> Retry | Park:
        """Decide after a failed attempt: a retry with its delay, or parking once the attempts are used up."""
        if context.attempt >= self.attempts_max:
            return Park(f"{context.reason} (attempt {context.attempt} of {self.attempts_max})")
        return Retry(context.reason, self.delay_s(context.attempt, jitter) if after_s is None else after_s)
