"""Runs one segment of a run, from taking it to its end.

A worker takes a run by appending `agent.status running` with its own token as holder. It executes the agent, and the segment
ends in one of four ways: the run completes, it waits for people, it is handed over to a new attempt, or, if another worker has
taken the run, nothing more is appended.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import nullcontext
from dataclasses import replace
from typing import NamedTuple

from consumers.agents.agent import AgentFailed, AgentInput, Suspended
from consumers.agents.loading import ServedAgent
from consumers.runs.execution import Execution
from consumers.runs.flow import Flow, status_key, status_payload
from consumers.runs.held_runs import Control, HeldRun, HeldRuns, Stop
from consumers.runs.history import NoInput, read_input
from consumers.runs.messages import MessageEnding
from consumers.runs.parts import WorkerParts
from consumers.runs.run_log import Fenced, RunLog
from consumers.runs.transitions import Lost, RunChange, RunEnding, failure, judge, requeue
from consumers.tasks import CANCEL_WAIT_S, end_or_close
from streams.channel import Channel, Kind
from streams.errors import GuardRefused, IdempotencyConflict
from streams.json_bytes import Json, JsonObject
from streams.log_context import CURRENT
from streams.records.runs import RunView
from streams.records.settings import SettingsRecords
from streams.run_states import RUNNING_MS_DEFAULT

_log = logging.getLogger(__name__)


class Taken(NamedTuple):
    """A segment that this worker has taken: its log, and its entry among the held runs."""

    writes: RunLog
    held: HeldRun


class SegmentRunner:
    """Runs segments of the agents that this worker serves."""

    def __init__(self, parts: WorkerParts, held_runs: HeldRuns) -> None:
        self.parts = parts
        self.flow = Flow(parts)
        self._held_runs = held_runs

    async def run(self, channel: Channel, run_id: str, segment: int, attempt: int) -> None:
        """Take and run this segment. Never raises because an agent fails."""
        taken = await self.take(channel, run_id, segment, attempt)
        if taken is not None:
            await self.execute(taken)

    async def take(self, channel: Channel, run_id: str, segment: int, attempt: int) -> Taken | None:
        """Become the holder of this segment; None if it is over or another worker has it."""
        parts = self.parts
        view = await parts.store.run(channel, run_id)
        if view is None or (view.state, view.segment, view.attempt) != ("queued", segment, attempt):
            return None
        holder = f"{parts.worker}/{secrets.token_hex(6)}"
        parts.faults.hit("run_before_take")
        held = HeldRun(channel, run_id, view.agent, holder, Control())
        with self._held_runs.taking(held):
            if not await parts.leases.acquire_run(channel, run_id, holder, parts.lease_ms):
                return None
            try:
                writes = await self._take(channel, view, holder)
            except Fenced:
                writes = None
            if writes is None:
                await parts.leases.release_run(channel, run_id, holder)
                return None
            self._held_runs.add(held)
        return Taken(writes, held)

    async def execute(self, taken: Taken) -> None:
        """Run a taken segment to its end."""
        held, writes = taken.held, taken.writes
        span = writes.step(f"agent {held.agent}")
        if span is not None:
            writes = replace(writes, traceparent=span.traceparent)
        CURRENT.set((held,))
        try:
            self.parts.faults.hit("run_after_take")
            with (
                span.current() if span is not None else nullcontext()
            ):  # the agent's own spans, of its libraries, belong to it
                await self._execute(writes, held.control)
        except Fenced:
            _log.warning("run %s has a new holder; this worker stops its segment", held.run_id)
        finally:
            if span is not None:
                span.end()
            self._held_runs.remove(held)
            await self.parts.leases.release_run(held.channel, held.run_id, held.holder)

    async def _take(self, channel: Channel, view: RunView, holder: str) -> RunLog | None:
        now_ms = self.parts.now_ms()
        until = now_ms + (view.limit_ms or RUNNING_MS_DEFAULT)
        began = view.began_ms or now_ms
        writes = await self.flow.run_log(channel, view)
        settings = view.settings if view.began_ms else await self._settings(channel)
        change = RunChange(
            ("queued",),
            (
                ("state", "running"),
                ("holder", holder),
                ("since_ms", str(now_ms)),
                ("deadline_ms", str(until)),
                ("began_ms", str(began)),
                ("settings", settings),
            ),
            checks=(("segment", "eq", str(view.segment)), ("attempt", "eq", str(view.attempt))),
        )
        try:
            await writes.append(
                "agent.status", status_payload(view, "running", "queued"), status_key(view, "running"), change
            )
        except (GuardRefused, IdempotencyConflict):
            return None
        run = replace(view, state="running", holder=holder, deadline_ms=until, began_ms=began, settings=settings)
        found = await self.parts.store.run(channel, view.run_id)
        if found is None or found.holder != holder:  # the same append was made by an earlier execution of this job
            return None
        writes.run, writes.holder = run, holder
        if run.segment > 1 or run.attempt > 1:
            writes.journal = await self.flow.read_journal(channel, run)
        return writes

    async def _settings(self, channel: Channel) -> str:
        """The conversation's current settings.

        The run stores them, because a replay must get the same ones as the first execution.
        """
        if channel.kind is not Kind.CONVERSATION:
            return ""
        return await SettingsRecords(self.parts.log).for_agents(channel)

    async def _execute(self, writes: RunLog, control: Control) -> None:
        agent = self.parts.agents.get(writes.run.agent)
        if agent is None:
            await self._fail(writes, "agent_unavailable", "this worker does not serve the agent", is_retryable=True)
            return
        try:
            given = await read_input(self.flow, writes)
        except NoInput as error:
            await self._fail(writes, "no_input", str(error), is_retryable=False)
            return
        await self._run_agent(writes, agent, control, given)

    async def _run_agent(self, writes: RunLog, agent: ServedAgent, control: Control, given: AgentInput) -> None:
        kept = ""
        if (message := writes.journal.open_message) is not None:
            kept, _ = await self.parts.store.open_text(writes.channel, message.message_id)
        execution = Execution(self.parts, writes, agent, control, parent=given.parent, kept=kept)
        task = asyncio.create_task(execution.run(given), name=f"agent {writes.run.run_id}")
        try:
            is_expired = await self._watch(task, control, writes.run)
            await self._finish(execution, task, is_expired=is_expired)
        finally:
            task.cancel()
            execution.messages.close()

    async def _watch(self, task: asyncio.Task[None], control: Control, run: RunView) -> bool:
        """Wait for the agent to end, or end it. True if its deadline ended it."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + max(0, run.deadline_ms - self.parts.now_ms()) / 1000
        is_expired = False
        while not task.done():
            change = asyncio.ensure_future(control.changed())
            try:
                timeout_s = max(0.0, until_s - loop.time())
                await asyncio.wait({task, change}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            finally:
                change.cancel()
            if task.done():
                break
            if control.stop is Stop.CANCEL and loop.time() < until_s:
                until_s = min(until_s, loop.time() + self.parts.grace_s)
                continue
            is_expired = control.stop is None
            await end_or_close([task], CANCEL_WAIT_S)
            break
        return is_expired

    async def _finish(self, execution: Execution, task: asyncio.Task[None], *, is_expired: bool) -> None:
        """Carry out the consequence of the agent's end: complete, wait, hand over or fail."""
        control, writes = execution.control, execution.run_log
        error = task.exception() if task.done() and not task.cancelled() else asyncio.CancelledError()
        if control.stop is Stop.FENCED or isinstance(error, Fenced):
            raise Fenced(writes.run.run_id)
        if isinstance(error, Suspended) and control.stop is None:
            await self._wait(execution)
        elif error is None:
            await self._close(execution, RunEnding("success", self._duration_ms(writes.run), result=execution.result))
        elif is_expired:
            await self._close(execution, RunEnding("expired", self._duration_ms(writes.run), "timeout"))
        elif control.stop is Stop.HAND_OVER:
            await self._hand_over(execution)
        elif control.stop is not None:
            await self._close_cancelled(execution)
        elif isinstance(error, AgentFailed):
            problem = failure(error.code, str(error), is_retryable=error.is_retryable)
            await self._close(execution, RunEnding("failed", self._duration_ms(writes.run), "failed", problem))
        elif isinstance(error, Exception | asyncio.CancelledError | GeneratorExit):
            _log.error("agent %s failed in run %s", writes.run.agent, writes.run.run_id, exc_info=error)
            problem = failure("agent_error", "the agent failed; see the worker's log", is_retryable=True)
            await self._close(execution, RunEnding("failed", self._duration_ms(writes.run), "failed", problem))
        else:
            raise error

    async def _wait(self, execution: Execution) -> None:
        """End the segment until people have answered."""
        writes, faults = execution.run_log, self.parts.faults
        await execution.messages.end(MessageEnding("tool_calls"))
        deadline_ms = await execution.questions.put()
        faults.hit("run_before_wait")
        run = writes.run
        pending: list[Json] = [request_id for request_id, _ in execution.questions.open]
        change = RunChange(
            ("running",),
            (
                ("state", "waiting"),
                ("holder", ""),
                ("since_ms", str(self.parts.now_ms())),
                ("deadline_ms", str(deadline_ms)),
            ),
        )
        payload = status_payload(run, "waiting", "running", pending=pending)
        try:
            await writes.append("agent.status", payload, status_key(run, "waiting"), change)
        except GuardRefused:  # a cancel came first
            await self._close_cancelled(execution)
            return
        faults.hit("run_after_wait")
        await self.flow.resume(writes.channel, run.run_id)  # the last answer may have arrived before the run waited

    async def _hand_over(self, execution: Execution) -> None:
        """Hand the run over to another worker as a new attempt, which does not count as a loss."""
        writes = execution.run_log
        await execution.messages.flush()
        verdict = judge(writes.journal, losses=0)
        if isinstance(verdict, Lost):
            await self._close(execution, self._lost(writes.run, verdict))
            return
        change = requeue(writes.run, self.parts.now_ms(), is_loss=False)
        following = replace(writes.run, attempt=writes.run.attempt + 1)
        payload = status_payload(following, "queued", "running", reason="its worker is stopping")
        if await writes.append_unless_done("agent.status", payload, status_key(following, "queued"), change):
            await self.parts.leases.release_run(writes.channel, writes.run.run_id, writes.holder)
            await self.flow.put_job(writes.channel, writes.run.run_id)
        else:
            await self._close_cancelled(execution)

    async def _close_cancelled(self, execution: Execution) -> None:
        await self.flow.enter_cancelling(execution.run_log)
        await self._close(execution, RunEnding("cancelled", self._duration_ms(execution.run_log.run)))

    async def _close(self, execution: Execution, ending: RunEnding) -> None:
        writes = execution.run_log
        await execution.messages.flush()
        text, reasoning = execution.messages.open_texts()
        ending = replace(ending, text=text, reasoning=reasoning)
        if await self.flow.close(writes, ending):
            return
        if ending.outcome in {"expired", "success"}:  # a cancel came first, after which these outcomes are not allowed
            await self.flow.close(writes, replace(ending, outcome="cancelled", result=None))

    async def _fail(self, writes: RunLog, code: str, message: str, *, is_retryable: bool) -> None:
        problem = failure(code, message, is_retryable=is_retryable)
        await self.flow.close(writes, RunEnding("failed", self._duration_ms(writes.run), "failed", problem))

    def _duration_ms(self, run: RunView) -> int:
        return max(0, self.parts.now_ms() - run.began_ms)

    def _lost(self, run: RunView, verdict: Lost) -> RunEnding:
        problem: JsonObject = failure("worker_lost", verdict.message, is_retryable=True)
        return RunEnding("failed", self._duration_ms(run), "worker_lost", problem)
