"""The transitions of a run: begin, take its turn, resume, cancel, close. Handlers, workers and the reaper all use them.

Each transition is one append, whose guard accepts only one writer; repeating a transition changes nothing.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import replace

from consumers.runs.journal import Journal
from consumers.runs.parts import WorkerParts
from consumers.runs.run_log import RunLog
from consumers.runs.transitions import RunChange, RunEnding, closing
from projections.recorded import Recorded, recorded
from streams.channel import Channel
from streams.errors import GuardRefused, IdempotencyConflict
from streams.json_bytes import Json, JsonObject
from streams.records.runs import RunView, cancel_unbegun, is_unbegun
from streams.run_states import CANCELLING_MS_MAX
from streams.tracing import valid_traceparent

_CANCEL_TRIES = 5
"""Maximum number of tries to cancel a run whose state changes meanwhile: queued, running, waiting, queued and so on."""
_log = logging.getLogger(__name__)


def status_payload(
    run: RunView, state: str, previous: str | None = None, *, reason: str = "", pending: list[Json] | None = None
) -> JsonObject:
    """The payload of `agent.status`. It is the same for every writer, so that the idempotency key gives a single event."""
    payload: JsonObject = {
        "run_id": run.run_id,
        "agent": run.agent,
        "state": state,
        "attempt": run.attempt,
        "segment": run.segment,
    }
    if previous:
        payload["previous"] = previous
    if reason:
        payload["reason"] = reason[:500]
    if pending:
        payload["pending_requests"] = pending
    return payload


def status_key(run: RunView, state: str) -> str:
    """The idempotency key of `agent.status` within its run."""
    return f"status/{run.segment}/{run.attempt}/{state}"


class Flow:
    """Carries out transitions of runs, with the shared objects of one worker."""

    def __init__(self, parts: WorkerParts) -> None:
        self.parts = parts

    async def run_log(self, channel: Channel, run: RunView, holder: str = "") -> RunLog:
        """A `RunLog` for the run; its journal is empty until `read_journal`."""
        cause = await self.cause(channel, run)
        found = cause.meta.get("correlation") if cause else None
        correlation = found if isinstance(found, str) else run.cause
        traceparent = valid_traceparent(cause.meta.get("traceparent")) if cause else None
        journal, tracing = Journal(run.run_id), self.parts.tracing
        return RunLog(self.parts.log, channel, run, journal, correlation, holder, tracing, traceparent)

    async def cause(self, channel: Channel, run: RunView) -> Recorded | None:
        """The event that began the run; None if it was trimmed."""
        entry = await self.parts.log.entry(channel, run.cause)
        return recorded(entry) if entry else None

    async def read_journal(self, channel: Channel, run: RunView) -> Journal:
        """Read the run's events from the log, from the one that began it to the newest, and fold them into a journal."""
        journal, after = Journal(run.run_id), run.cause
        while page := await self.parts.log.page(channel, after):
            after = page[-1].id.decode()
            for entry in page:
                if entry.type.startswith(_OF_RUNS):
                    event = recorded(entry)
                    journal.apply(event.type, event.payload)
        return journal

    async def begin(self, channel: Channel, run: RunView) -> None:
        """Begin a requested run: list it as unfinished, append `agent.status queued`, and queue it for its turn in the channel."""
        parts = self.parts
        await parts.store.register(channel, run.run_id, parts.now_ms())
        await self.announce(await self.run_log(channel, run))
        if run.cancel:
            await self.cancel(channel, run.run_id)
            return
        if run.on_busy == "interrupt":
            await self._interrupt(channel, run.run_id)
        await self.take_turn(channel, run)

    @staticmethod
    async def announce(writes: RunLog) -> None:
        """Append the run's first event, `agent.status queued`, unless another writer has done so."""
        run = writes.run
        await writes.append_unless_done(
            "agent.status", status_payload(run, "queued"), status_key(run, "queued"), RunChange(states=("queued",))
        )

    async def take_turn(self, channel: Channel, run: RunView) -> None:
        """Queue the run for its turn in the channel, and put a job for the run whose turn it is."""
        active = await self.parts.store.turn(channel, joining=(run.cause, run.run_id))
        await self.put_job(channel, active)

    async def put_job(self, channel: Channel, run_id: str, again: str = "") -> None:
        """Put a job for the run's segment if the run is queued."""
        run = await self.parts.store.run(channel, run_id) if run_id else None
        if run is not None and run.state == "queued":
            await self.parts.jobs.put(channel, run, again=again)

    async def resume(self, channel: Channel, run_id: str) -> bool:
        """Begin the next segment if the run is waiting and every question is answered."""
        run = await self.parts.store.run(channel, run_id)
        if run is None or run.state != "waiting" or run.answered < run.asked:
            return False
        following = replace(run, segment=run.segment + 1)
        writes = await self.run_log(channel, following)
        change = RunChange(
            ("waiting",),
            (("state", "queued"), ("segment", str(following.segment)), self._since()),
            checks=(("segment", "eq", str(run.segment)),),
        )
        payload = status_payload(following, "queued", "waiting", reason="all questions are answered")
        await writes.append_unless_done("agent.status", payload, status_key(following, "queued"), change)
        # While it waited it was inspected every 30 s; from now on a lost worker must be noticed as soon as its lease expires.
        await self.parts.store.register(channel, run_id, self.parts.now_ms() + self.parts.lease_ms)
        await self.put_job(channel, run_id)
        return True

    async def cancel(self, channel: Channel, run_id: str) -> None:
        """Carry out an accepted cancel, in whatever state the run is."""
        for _ in range(_CANCEL_TRIES):
            run = await self.parts.store.run(channel, run_id)
            if run is None or run.is_final:
                await self.leave(channel, run_id, run)  # the hub may have ended the run, and does not pass on its turn
                return
            if is_unbegun(run) and await self._cancel_unbegun(channel, run):
                return
            if run.state in {"running", "cancelling"}:
                if await self.enter_cancelling(await self.run_log(channel, run)):
                    await self.parts.store.hint(channel, run_id)
                    return
            elif await self._close_idle(channel, run, "cancelled"):
                return

    async def enter_cancelling(self, writes: RunLog) -> bool:
        """Append `agent.status cancelling` for a running run. False if it is neither running nor being cancelled."""
        run = writes.run
        if run.state == "cancelling":
            return True
        until = str(self.parts.now_ms() + CANCELLING_MS_MAX)
        change = RunChange(("running",), (("state", "cancelling"), ("deadline_ms", until), self._since()))
        payload = status_payload(run, "cancelling", "running")
        try:
            await writes.append("agent.status", payload, status_key(run, "cancelling"), change)
        except GuardRefused as error:
            return error.present == "cancelling"
        return True

    async def close(self, writes: RunLog, ending: RunEnding) -> bool:
        """Append the events missing at the run's end, and its `agent.complete`. False if the run's state did not allow it.

        Raises:
            Fenced: the run has another holder.
        """
        await self._reject_steering(writes)
        *before, complete = closing(writes.channel, writes.journal, writes.run, ending)
        for planned in before:
            await writes.append_unless_done(*planned)
        self.parts.faults.hit("run_before_complete")
        try:
            await writes.append(*complete)
        except IdempotencyConflict:
            _log.info("run %s was closed by another writer", writes.run.run_id)
        except GuardRefused as error:
            return error.present in {"completed", "failed", "cancelled", "expired"}
        else:
            self.parts.metrics.runs_ended[ending.outcome] += 1
        self.parts.faults.hit("run_after_complete")
        await self.leave(writes.channel, writes.run.run_id, writes.run)
        return True

    async def _reject_steering(self, writes: RunLog) -> None:
        """Reject the steering texts that the run did not take; one that it took has `applied` under the same key, which stays."""
        store, run_id = self.parts.store, writes.run.run_id
        (flags,) = await store.flags([(writes.channel, run_id)])
        for number in range(1, flags.steers + 1):
            event_id = await store.steer(writes.channel, run_id, number)
            payload: JsonObject = {
                "message_id": event_id,
                "status": "rejected",
                "run_id": run_id,
                "reason": "the run ended before it read this",
            }
            await writes.append_unless_done("message.status", payload, f"steer/{event_id}")

    async def leave(self, channel: Channel, run_id: str, run: RunView | None) -> None:
        """Release a final run's turn and slot, remove it from the list, and put a job for the channel's next run."""
        if run is not None and run.slot:
            await self.parts.slots.give_back(channel, run.by, run.slot)
        active = await self.parts.store.turn(channel, leaving=run_id)
        self.parts.faults.hit("run_after_turn")
        await self.put_job(channel, active)
        await self.parts.store.forget(channel, run_id)

    async def expire_idle(self, channel: Channel, run: RunView) -> bool:
        """End a run that was queued or waiting for too long."""
        return await self._close_idle(channel, run, "expired")

    async def _close_idle(self, channel: Channel, run: RunView, outcome: str) -> bool:
        """Close a run that no worker holds, because it is queued or waiting."""
        writes = await self.run_log(channel, run)
        if run.state == "queued" and run.segment == run.attempt == 1:
            await self.announce(writes)  # the hub may have ended the run before the handler announced it
        if run.segment > 1 or run.attempt > 1 or run.state == "waiting":
            writes.journal = await self.read_journal(channel, run)
        duration_ms = self.parts.now_ms() - run.began_ms if run.began_ms else 0
        text, reasoning = "", ""
        if (message := writes.journal.open_message) is not None:
            text, reasoning = await self.parts.store.open_text(channel, message.message_id)
        ending = RunEnding(
            "expired" if outcome == "expired" else "cancelled", duration_ms, text=text, reasoning=reasoning
        )
        return await self.close(writes, ending)

    async def _cancel_unbegun(self, channel: Channel, run: RunView) -> bool:
        """End a run that has not begun, with the same events that the hub would append."""
        writes = await self.run_log(channel, run)
        for draft in cancel_unbegun(channel, run, writes.correlation, writes.traceparent):
            with contextlib.suppress(IdempotencyConflict, GuardRefused):
                await self.parts.log.append(draft)
        found = await self.parts.store.run(channel, run.run_id)
        if found is None or not found.is_final:
            return False
        self.parts.metrics.runs_ended["cancelled"] += 1
        await self.leave(channel, run.run_id, run)
        return True

    async def _interrupt(self, channel: Channel, run_id: str) -> None:
        home = await self.parts.store.home(channel)
        for other in (*home.waiting, home.active):
            if other and other != run_id:
                await self.parts.store.ask_to_stop(channel, other, "graceful")
                await self.cancel(channel, other)

    def _since(self) -> tuple[str, str]:
        return "since_ms", str(self.parts.now_ms())


_OF_RUNS = (b"assistant.", b"tool.call.", b"agent.")
