"""The reaper inspects every unfinished run for missed deadlines, lost workers and lost jobs.

Before it changes a run, it takes the run's lease and makes itself the holder, so that the old worker's appends are refused.
Even two reapers, or a reaper and a worker that was merely slow, write each event only once.
"""

from __future__ import annotations

import logging
import secrets
from dataclasses import replace
from typing import Final

from consumers.runs.flow import Flow, status_key, status_payload
from consumers.runs.parts import WorkerParts
from consumers.runs.run_log import Fenced
from consumers.runs.transitions import Lost, RunEnding, failure, judge, requeue
from streams.channel import Channel
from streams.records.runs import RunView
from streams.run_states import QUEUED_MS_MAX, WAITING_MS_DEFAULT

TURN_S: Final = 1.0
DUE_MAX: Final = 200
LOOK_AGAIN_MS: Final = 3_000
"""Interval between inspections of a run: the time beyond its lease after which a lost worker is noticed."""
WAITING_LOOK_MS: Final = 30_000
CLOCK_ERROR_MS: Final = 2_000
"""Upper bound of the difference between two processes' readings of Redis's clock."""
JOB_PATIENCE_MS: Final = 20_000
"""Time after which a run whose turn it is gets another job if nobody has taken it: the first job may have died with a worker."""
DEADLINE_GRACE_MS: Final = 20_000
"""Time by which the reaper's deadline is later than the worker's, which normally ends the run itself."""
_log = logging.getLogger(__name__)


class Reaper:
    """Inspects the runs in this worker's partitions."""

    def __init__(
        self,
        parts: WorkerParts,
        turn_s: float = TURN_S,
        look_again_ms: int = LOOK_AGAIN_MS,
        job_patience_ms: int = JOB_PATIENCE_MS,
    ) -> None:
        self._parts = parts
        self._job_patience_ms = job_patience_ms
        self._flow = Flow(parts)
        self._turn_s = turn_s
        self._look_again_ms = look_again_ms
        self._ahead_ms = 2 * max(WAITING_LOOK_MS, look_again_ms, parts.lease_ms)
        self._partitions: set[int] = set()

    async def take(self, partition: int, token: int) -> None:  # noqa: ARG002 - runs have leases of their own
        """Start inspecting the runs of a partition."""
        self._partitions.add(partition)

    async def leave(self, partition: int, *, is_lost: bool) -> None:  # noqa: ARG002 - nothing is under way between turns
        """Stop inspecting the runs of a partition."""
        self._partitions.discard(partition)

    @property
    def every_s(self) -> float:
        """The interval between two turns, in seconds."""
        return self._turn_s

    async def turn(self) -> None:
        """Inspect the runs that are due in this worker's partitions.

        Raises:
            LogUnavailable: Redis is unreachable.
        """
        failure: Exception | None = None
        for partition in list(self._partitions):
            try:
                await self.look(partition)
            except (
                Exception
            ) as error:  # a run that cannot be read, or a lost server of a Cluster, must not delay the others
                failure = error
        if failure is not None:
            raise failure

    async def look(self, partition: int) -> None:
        """Inspect the due runs of a partition."""
        for channel, run_id in await self._parts.store.due(partition, self._parts.now_ms(), self._ahead_ms, DUE_MAX):
            wait_ms = self._look_again_ms
            try:
                wait_ms = await self.inspect(channel, run_id)
            except Fenced:
                _log.info("run %s has another holder", run_id)
            finally:
                if wait_ms:
                    await self._parts.store.register(channel, run_id, self._parts.now_ms() + wait_ms)

    async def inspect(self, channel: Channel, run_id: str) -> int:
        """Take the next action that the run needs.

        Returns the milliseconds until the next inspection, or 0 if the run has ended.
        """
        run = await self._parts.store.run(channel, run_id)
        if run is None or run.is_final:
            await self._flow.leave(channel, run_id, run)
            return 0
        if run.slot:
            await self._parts.slots.renew(channel, run.by, run.slot)
        if run.cancel and run.state in {"queued", "waiting"}:
            await self._flow.cancel(channel, run_id)
        elif run.state == "queued":
            await self._queued(channel, run)
        elif run.state == "waiting":
            return await self._waiting(channel, run)
        elif not await self._parts.leases.is_run_alive(channel, run_id):
            await self._lost(channel, run_id)
        elif self._parts.now_ms() > run.deadline_ms + DEADLINE_GRACE_MS:
            await self._overdue(channel, run_id)
        return self._look_again_ms

    async def _queued(self, channel: Channel, run: RunView) -> None:
        age_ms = self._parts.now_ms() - run.since_ms
        if run.segment == run.attempt == 1:  # the worker that listed it may have died before appending this
            await self._flow.announce(await self._flow.run_log(channel, run))
        active = await self._parts.store.turn(channel, joining=(run.cause, run.run_id))
        if active != run.run_id:
            await self._check_turn(channel, active)
        elif age_ms > QUEUED_MS_MAX:
            self._parts.metrics.runs_lost["expired"] += 1
            await self._flow.expire_idle(channel, run)
        else:
            # Registered for a time far ahead: the clock was set back, and arq's record that stops a repeated job may last as long.
            is_late = age_ms > self._job_patience_ms or age_ms < -CLOCK_ERROR_MS
            again = f"r{age_ms // self._job_patience_ms}" if is_late else ""
            if again:
                await self._parts.jobs.drop(channel, run)
            await self._flow.put_job(channel, run.run_id, again)

    async def _check_turn(self, channel: Channel, active: str) -> None:
        """Pass the turn on if the run whose turn it is has ended."""
        other = await self._parts.store.run(channel, active)
        if other is None or other.is_final:
            await self._flow.leave(channel, active, other)

    async def _waiting(self, channel: Channel, run: RunView) -> int:
        now_ms = self._parts.now_ms()
        deadline_ms = run.deadline_ms or run.since_ms + WAITING_MS_DEFAULT
        if now_ms >= deadline_ms:
            self._parts.metrics.runs_lost["expired"] += 1
            await self._flow.expire_idle(channel, run)
        elif run.answered >= run.asked:
            await self._flow.resume(channel, run.run_id)
        else:
            return max(self._look_again_ms, min(WAITING_LOOK_MS, deadline_ms - now_ms))
        return self._look_again_ms

    async def _lost(self, channel: Channel, run_id: str) -> None:
        """Begin a new attempt of a run whose worker is lost, or end the run."""
        reason = await self._parts.leases.release_reason(channel, run_id)
        holder = await self._acquire(channel, run_id)
        if holder is None:
            return
        try:
            run = await self._parts.store.take_over(channel, run_id, holder)
            if run is not None and run.state in {"running", "cancelling"}:
                await self._recover(channel, run, holder, reason)
                await self._parts.jobs.drop(channel, run)
        finally:
            await self._parts.leases.release_run(channel, run_id, holder)

    async def _recover(self, channel: Channel, run: RunView, holder: str, reason: str) -> None:
        writes = await self._flow.run_log(channel, run, holder)
        writes.journal = await self._flow.read_journal(channel, run)
        verdict = judge(writes.journal, run.losses + 1)
        if run.state == "cancelling":
            await self._end(writes.run, channel, holder, "cancelled")
        elif isinstance(verdict, Lost):
            await self._end(
                run, channel, holder, "failed", f"{reason}; {verdict.message}" if reason else verdict.message
            )
        else:
            _log.warning("run %s: %s; attempt %d follows", run.run_id, reason or "its worker was lost", run.attempt + 1)
            self._parts.metrics.runs_lost["again"] += 1
            change = requeue(run, self._parts.now_ms(), is_loss=True)
            following = replace(run, attempt=run.attempt + 1)
            payload = status_payload(following, "queued", "running", reason=reason or "its worker was lost")
            await writes.append_unless_done("agent.status", payload, status_key(following, "queued"), change)
            await self._parts.leases.release_run(channel, run.run_id, holder)
            await self._flow.put_job(channel, run.run_id)

    async def _overdue(self, channel: Channel, run_id: str) -> None:
        """End a run that is past its deadline, even if a worker holds it."""
        run = await self._parts.store.run(channel, run_id)
        if run is None or run.state not in {"running", "cancelling"}:
            return
        holder = self._new_holder()
        taken = await self._parts.store.take_over(channel, run_id, holder)
        if taken is not None and not taken.is_final:
            await self._end(taken, channel, holder, "cancelled" if taken.state == "cancelling" else "expired")

    async def _end(self, run: RunView, channel: Channel, holder: str, outcome: str, message: str = "") -> None:
        self._parts.metrics.runs_lost[outcome] += 1
        writes = await self._flow.run_log(channel, run, holder)
        writes.journal = await self._flow.read_journal(channel, run)
        text, reasoning = "", ""
        if (opened := writes.journal.open_message) is not None:
            text, reasoning = await self._parts.store.open_text(channel, opened.message_id)
        duration_ms = max(0, self._parts.now_ms() - run.began_ms)
        ending = RunEnding("cancelled", duration_ms, "cancelled", None, text, reasoning)
        if outcome == "failed":
            problem = failure("worker_lost", message, is_retryable=True)
            ending = replace(ending, outcome="failed", tool_reason="worker_lost", failure=problem)
        elif outcome == "expired":
            ending = replace(ending, outcome="expired", tool_reason="timeout")
        await self._flow.close(writes, ending)

    async def _acquire(self, channel: Channel, run_id: str) -> str | None:
        holder = self._new_holder()
        is_ours = await self._parts.leases.acquire_run(channel, run_id, holder, self._parts.lease_ms)
        return holder if is_ours else None

    def _new_holder(self) -> str:
        return f"{self._parts.worker}/reaper-{secrets.token_hex(6)}"
