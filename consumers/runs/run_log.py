"""Appends for a run: durable events with the run's guard, key, causation and journal, and deltas.

Of the deltas of all runs of a worker, at most IN_FLIGHT_MAX are in flight.

A durable append is repeated until it is confirmed or refused. Its key makes that safe, and its guard stops a worker that has
lost the run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from consumers.runs.journal import Journal
from consumers.runs.transitions import NO_CHANGE, RunChange
from streams.channel import Channel
from streams.envelope import Actor, Appended, Draft, Guard, OpenText
from streams.errors import GuardRefused, IdempotencyConflict, LogUnavailable
from streams.events import CATALOGUE
from streams.json_bytes import JsonObject, to_json
from streams.records.runs import RUN_TTL_S, RunView, run_guard_name
from streams.redis.append import Done, Result
from streams.redis.log import Log
from streams.tracing import Span, Tracing

RETRY_S: Final = 0.25
IN_FLIGHT_MAX: Final = 256
"""Maximum number of deltas in flight. At this bound text is joined into larger deltas rather than queued."""


class Fenced(Exception):
    """The run has another holder, so this worker must no longer append for it."""


@dataclass(slots=True)
class RunLog:
    """Appends for one run. If `holder` is set, every append checks it; otherwise only the conditions of its `RunChange` apply.

    Attributes:
        correlation: the ID of the first event of the chain, shared by all events of the run.
        tracing: records traces; None where that is off.
        traceparent: the trace that the run belongs to, and its events with it.
    """

    log: Log
    channel: Channel
    run: RunView
    journal: Journal
    correlation: str
    holder: str = ""
    tracing: Tracing | None = None
    traceparent: str | None = None

    def step(self, name: str) -> Span | None:
        """Begins a step of the run's trace; None where that is off, or the run belongs to none."""
        return None if self.tracing is None else self.tracing.follow(name, self.traceparent)

    @property
    def actor(self) -> Actor:
        """The agent as an actor; it answers under its own name."""
        return Actor("agent", self.run.agent)

    def draft(
        self,
        type_: str,
        payload: JsonObject,
        key: str = "",
        change: RunChange = NO_CHANGE,
        open_text: OpenText | None = None,
    ) -> Draft:
        """Build an event of the run for appending. `key` identifies it within the run; live events have none."""
        declared = CATALOGUE[type_]
        return Draft(
            self.channel,
            type_,
            to_json(payload),
            self.actor,
            declared.lane,
            declared.version,
            command=f"{self.run.run_id}/{key}" if key else None,
            correlation=self.correlation,
            causation=self.run.cause,
            guards=(self._guard(change), *change.guards),
            open_text=open_text,
            is_wanted=declared.is_wanted,
            traceparent=self.traceparent,
        )

    async def append(
        self,
        type_: str,
        payload: JsonObject,
        key: str,
        change: RunChange = NO_CHANGE,
        open_text: OpenText | None = None,
    ) -> Appended:
        """Append a durable event of the run, once per key.

        Raises:
            Fenced: the run has another holder, or no longer exists.
            GuardRefused: another condition did not hold.
            IdempotencyConflict: the event with this key was already written with another payload.
        """
        draft = self.draft(type_, payload, key, change, open_text)
        while True:
            try:
                appended = await self.log.append(draft)
            except LogUnavailable:
                await asyncio.sleep(RETRY_S)
            except GuardRefused as error:
                if error.field == "holder":
                    raise Fenced(self.run.run_id) from error
                raise
            else:
                self.journal.apply(type_, payload)
                return appended

    async def append_unless_done(
        self,
        type_: str,
        payload: JsonObject,
        key: str,
        change: RunChange = NO_CHANGE,
        open_text: OpenText | None = None,
    ) -> bool:
        """Append as `append` does; False if the event was written before or its guard refused it."""
        try:
            await self.append(type_, payload, key, change, open_text)
        except (GuardRefused, IdempotencyConflict):
            return False
        return True

    def _guard(self, change: RunChange) -> Guard:
        checks: Iterable[tuple[str, str, str]] = change.checks
        if self.holder:
            checks = (("holder", "eq", self.holder), *checks)
        if change.states:
            checks = (*checks, ("state", "in", ",".join(change.states)))
        name = run_guard_name(self.channel, self.run.run_id)
        return Guard(name, tuple(checks), change.sets, change.increments, ttl_s=RUN_TTL_S)


class DeltaWriter:
    """Submits the deltas of all runs of a worker without waiting, up to a maximum number in flight."""

    def __init__(self, log: Log, in_flight_max: int = IN_FLIGHT_MAX) -> None:
        self._log = log
        self._room = in_flight_max
        self._waiting: dict[object, Callable[[], None]] = {}

    @property
    def has_room(self) -> bool:
        """True if a delta may be submitted now."""
        return self._room > 0

    def when_room(self, who: object, wake: Callable[[], None]) -> None:
        """Call `wake` once when a delta may be submitted; callers are served in order of arrival. `who` identifies the caller."""
        self._waiting.setdefault(who, wake)

    def submit(self, draft: Draft, done: Done) -> None:
        """Submit a draft; `done` receives the result. Only allowed while `has_room` is true."""
        self._room -= 1

        def settled(result: Result) -> None:
            self._room += 1
            done(result)
            while self._waiting and self._room > 0:  # a caller that is woken may have nothing left to send
                self._waiting.pop(next(iter(self._waiting)))()

        self._log.submit(draft, settled)
