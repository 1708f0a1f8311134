"""Appending for one run: every event with the run's guard, its key, its causation, and the journal kept up to date.

A durable append is repeated until it is confirmed or refused: the key makes that safe, and the guard stops a worker that
was overtaken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from consumers.runs.change import NO_CHANGE, Change
from consumers.runs.control import Fenced
from consumers.runs.journal import Journal
from projections.json_value import JsonObject, canonical
from streams.channel import Channel
from streams.envelope import Actor, Appended, Draft, Guard, OpenText
from streams.errors import GuardRefused, IdempotencyConflict, LogUnavailable
from streams.events import CATALOGUE
from streams.records.runs import RUN_TTL_S, RunView, run_guard_name
from streams.redis.log import Log

RETRY_S = 0.25


@dataclass(slots=True)
class RunLog:
    """Appends for one run. With a `holder` every append compares it; without, only what `Change` says.

    Attributes:
        correlation: the event that began it all; the run's events share it.
    """

    log: Log
    channel: Channel
    run: RunView
    journal: Journal
    correlation: str
    holder: str = ""

    @property
    def actor(self) -> Actor:
        """The agent: it answers under its own name."""
        return Actor("agent", self.run.agent)

    def draft(
        self,
        type_: str,
        payload: JsonObject,
        key: str = "",
        change: Change = NO_CHANGE,
        open_text: OpenText | None = None,
    ) -> Draft:
        """The event as it goes to the log. `key` is what it is within the run; live events have none."""
        declared = CATALOGUE[type_]
        return Draft(
            self.channel, type_, canonical(payload), self.actor, declared.lane, declared.version,
            command=f"{self.run.run_id}/{key}" if key else None, correlation=self.correlation, causation=self.run.cause,
            guards=(self._guard(change), *change.guards), open_text=open_text, is_wanted=declared.is_wanted,
        )  # fmt: skip

    async def append(
        self, type_: str, payload: JsonObject, key: str, change: Change = NO_CHANGE, open_text: OpenText | None = None
    ) -> Appended:
        """Append a durable event of the run, once for its key.

        Raises:
            Fenced: the run has another holder, or is gone.
            GuardRefused: another condition did not hold.
            IdempotencyConflict: somebody else has written this event of the run already, in other words.
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
        self, type_: str, payload: JsonObject, key: str, change: Change = NO_CHANGE, open_text: OpenText | None = None
    ) -> bool:
        """As `append`; False when somebody else came first with this event."""
        try:
            await self.append(type_, payload, key, change, open_text)
        except (GuardRefused, IdempotencyConflict):
            return False
        return True

    def _guard(self, change: Change) -> Guard:
        checks: Iterable[tuple[str, str, str]] = change.checks
        if self.holder:
            checks = (("holder", "eq", self.holder), *checks)
        if change.states:
            checks = (*checks, ("state", "in", ",".join(change.states)))
        name = run_guard_name(self.channel, self.run.run_id)
        return Guard(name, tuple(checks), change.sets, change.increments, ttl_s=RUN_TTL_S)
