"""The tool calls of a segment: record them, get approvals, run them, and record their outcomes.

A call with a recorded outcome is not run again. A call that began and has no outcome is run again only if it is idempotent, and
then with the same key; if it must not be repeated, the reaper ends the run.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Final

from consumers.agents.agent import INVOKER, Answer, CallEnded, CallsBegun, Question, ToolCall, ToolOutcome
from consumers.faults import Faults
from consumers.runs.journal import CallRecord
from consumers.runs.messages import MessageEnding, RunMessages, checked_ending
from consumers.runs.questions import Questions
from consumers.runs.run_log import DeltaWriter, RunLog
from consumers.runs.storable import Unstorable, checked, storable, storable_text
from consumers.tasks import CANCEL_WAIT_S, end_or_close
from streams.json_bytes import Json, JsonObject, to_json
from streams.redis.append import Result

ARGS_BYTES_MAX = 64 * 1024
"""Maximum size of `args` in the catalogue."""
_log = logging.getLogger(__name__)
INTERVAL_S: Final = 0.5


class ToolRunner:
    """Runs the tool calls that an agent yields."""

    def __init__(
        self, run: RunLog, messages: RunMessages, questions: Questions, writer: DeltaWriter, faults: Faults
    ) -> None:
        self._run, self._messages, self._questions, self._writer, self._faults = (
            run,
            messages,
            questions,
            writer,
            faults,
        )
        self._count = 0
        self._uses: Counter[str] = Counter()
        self._framework_message: str | None = None

    async def call_all(self, calls: Sequence[ToolCall]) -> list[ToolOutcome]:
        """Run the calls concurrently; returns the outcomes in the order of the calls.

        Raises:
            Suspended: people or a client must answer first.
        """
        named = [replace(call, tool_call_id=self._name(call)) for call in calls]
        starts = [self._start(call, self._messages.message_id) for call in named]
        await self._end_message([call.tool_call_id for call in named])
        for start in starts:
            await self._append_start(start)
        answers = await self._answers(named)
        pairs = zip(named, answers, strict=True)
        tasks = [
            asyncio.create_task(self._call(call, answer), name=f"tool {call.tool_call_id} of {self._run.run.run_id}")
            for call, answer in pairs
        ]
        try:
            outcomes = await _all_of(tasks)
            return [_as_named(outcome, call) for outcome, call in zip(outcomes, calls, strict=True)]
        finally:
            await end_or_close(tasks, CANCEL_WAIT_S / 2)  # if one raised (fenced, cancelled), the others are ended too

    async def append_begun(self, begun: CallsBegun) -> None:
        """Record calls that the agent's framework runs; those already recorded (before an approval) are skipped."""
        fresh = [call for call in begun.calls if call.tool_call_id not in self._run.journal.calls]
        if not fresh:
            return
        if self._messages.is_open or self._framework_message is None or begun.message_calls:
            self._framework_message = await self._end_message(begun.message_calls)
        for call in fresh:
            await self._append_start(self._start(call, self._framework_message))

    async def append_ended(self, ended: CallEnded) -> None:
        """Record, once, the outcome of a call that the agent's framework ran."""
        outcome = ended.outcome
        record = self._run.journal.calls.get(outcome.tool_call_id)
        if record is None or record.outcome is not None:
            return
        if outcome.error is not None:
            await self._fail(outcome.tool_call_id, outcome.error, outcome.message, is_retryable=False)
        else:
            await self._complete(outcome.tool_call_id, ended.duration_ms, outcome.output, is_denied=outcome.is_denied)

    def _name(self, call: ToolCall) -> str:
        """The call's ID in the log.

        Some providers restart their IDs with each response, so a repeated ID gets a number appended.
        """
        if call.tool_call_id is None:
            self._count += 1
            return f"{self._run.run.run_id}.c{self._count - 1}"
        self._uses[call.tool_call_id] += 1
        use = self._uses[call.tool_call_id]
        return call.tool_call_id if use == 1 else f"{call.tool_call_id}~{use}"

    async def _end_message(self, call_ids: Sequence[str | None]) -> str:
        parts: list[JsonObject] = [{"type": "tool_call", "tool_call_id": call_id} for call_id in call_ids]
        return await self._messages.end(checked_ending(MessageEnding("tool_calls", parts=tuple(parts))), is_forced=True)

    def _start(self, call: ToolCall, message_id: str) -> JsonObject:
        """The payload of `tool.call.start`. Arguments too large for an event are omitted; the tool still receives them."""
        is_hidden = call.is_redacted or is_too_large(call.args)
        payload: JsonObject = {
            "tool_call_id": call.tool_call_id,
            "run_id": self._run.run.run_id,
            "message_id": message_id,
            "name": call.name,
            "executor": call.executor,
        }
        optional: JsonObject = {
            "title": call.title,
            "args": None if is_hidden else call.args,
            "redacted": is_hidden or None,
            "idempotent": call.is_idempotent or None,
            "timeout_ms": None if call.timeout_s is None else int(call.timeout_s * 1000),
        }
        payload |= {name: value for name, value in optional.items() if value is not None}
        return checked("tool.call.start", payload)

    async def _append_start(self, payload: JsonObject) -> None:
        call_id = str(payload["tool_call_id"])
        if call_id not in self._run.journal.calls:
            await self._run.append("tool.call.start", payload, f"call/{call_id}")

    async def _answers(self, calls: Sequence[ToolCall]) -> list[Answer | None]:
        """The answer to each call's question; None for calls without one."""
        asked = [(call, question) for call in calls if (question := self._question(call)) is not None]
        answers = await self._questions.ask_all([question for _, question in asked])
        by_call = {call.tool_call_id: answer for (call, _), answer in zip(asked, answers, strict=True)}
        return [by_call.get(call.tool_call_id) for call in calls]

    def _question(self, call: ToolCall) -> Question | None:
        if call.run is None:
            prompt = call.approval.prompt if call.approval else f"Run {call.name}"
            made = call.approval or Question(prompt, "client_tool")
            return replace(made, kind="client_tool", name=call.name, args=call.args, tool_call_id=call.tool_call_id)
        asked = call.approval or (Question(f"Run {call.name}", "approval") if call.is_sensitive else None)
        if asked is None:
            return None
        if call.is_sensitive and not asked.assignees:
            asked = replace(asked, assignees=INVOKER)
        return replace(asked, name=call.name, args=call.args, tool_call_id=call.tool_call_id)

    async def _call(self, call: ToolCall, answer: Answer | None) -> ToolOutcome:
        record = self._run.journal.calls[str(call.tool_call_id)]
        if record.outcome is not None:
            return _recorded(record)
        started_s = asyncio.get_running_loop().time()
        if answer is not None and answer.resolution in {"denied", "expired", "cancelled"}:
            return await self._complete(
                str(call.tool_call_id), _since_ms(started_s), answer.reason or "denied", is_denied=True
            )
        try:
            args = answer.edited_args if answer is not None and answer.edited_args is not None else call.args
            args = call.validate(args) if call.validate else args
        except ValueError as error:
            return await self._fail(str(call.tool_call_id), "invalid_args", str(error), is_retryable=False)
        if call.run is None:
            return await self._client_result(call, answer, started_s)
        return await self._run_tool(call, args, started_s)

    async def _client_result(self, call: ToolCall, answer: Answer | None, started_s: float) -> ToolOutcome:
        if answer is None or answer.error:
            problem = answer.error if answer else "nobody answered"
            return await self._fail(str(call.tool_call_id), "failed", problem, is_retryable=False)
        return await self._complete(str(call.tool_call_id), _since_ms(started_s), answer.value)

    async def _run_tool(self, call: ToolCall, args: JsonObject, started_s: float) -> ToolOutcome:
        call_id = str(call.tool_call_id)
        progress = ToolProgress(self._run, self._writer, call_id)
        if call.run is None:
            raise AssertionError("asked of people instead")
        self._faults.hit("run_before_tool")
        span = self._run.step(f"tool {call.name}")
        try:
            with span.current() if span is not None else nullcontext():
                async with asyncio.timeout(call.timeout_s):
                    output = await call.run(args, progress)
            self._faults.hit("run_after_tool")
        except TimeoutError:
            return await self._fail(
                str(call.tool_call_id), "timeout", f"no result within {call.timeout_s} s", is_retryable=True
            )
        except (Exception, SystemExit) as error:
            _log.warning("tool %s failed", call.name, exc_info=True)
            return await self._fail(
                str(call.tool_call_id), "failed", f"{type(error).__name__}: {error}", is_retryable=False
            )
        finally:
            if span is not None:
                span.end()
        return await self._complete(str(call.tool_call_id), _since_ms(started_s), output)

    async def _complete(self, call_id: str, duration_ms: int, output: Json, *, is_denied: bool = False) -> ToolOutcome:
        payload: JsonObject = {
            "tool_call_id": call_id,
            "run_id": self._run.run.run_id,
            "outcome": "denied" if is_denied else "ok",
            "output": output,
            "duration_ms": duration_ms,
        }
        try:
            payload = storable("tool.call.complete", payload)
        except Unstorable as error:
            return await self._fail(call_id, "failed", f"the output cannot be stored: {error}", is_retryable=False)
        await self._run.append("tool.call.complete", payload, f"result/{call_id}")
        return ToolOutcome(call_id, payload["output"], is_denied)

    async def _fail(self, call_id: str, reason: str, message: str, *, is_retryable: bool) -> ToolOutcome:
        payload: JsonObject = {
            "tool_call_id": call_id,
            "run_id": self._run.run.run_id,
            "reason": reason,
            "message": storable_text(message, 2000),
            "retryable": is_retryable,
        }
        await self._run.append("tool.call.error", payload, f"result/{call_id}")
        return ToolOutcome(call_id, error=reason, message=message)


async def _all_of(tasks: Sequence[asyncio.Task[ToolOutcome]]) -> list[ToolOutcome]:
    """The results, or the first exception.

    A cancellation is passed on at once, whereas `gather` delays it until all tasks have ended.
    """
    if tasks:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    return [task.result() for task in tasks]


def _as_named(outcome: ToolOutcome, call: ToolCall) -> ToolOutcome:
    """The outcome with the ID that the agent gave to the call."""
    return outcome if call.tool_call_id is None else replace(outcome, tool_call_id=call.tool_call_id)


def is_too_large(args: JsonObject) -> bool:
    """True if the arguments do not fit into an event."""
    return len(to_json(args)) > ARGS_BYTES_MAX


def _since_ms(started_s: float) -> int:
    return int((asyncio.get_running_loop().time() - started_s) * 1000)


def _recorded(record: CallRecord) -> ToolOutcome:
    is_denied = record.outcome == "denied"
    return ToolOutcome(record.tool_call_id, record.output, is_denied, record.error, record.message)


class ToolProgress:
    """Implements `ToolContext`: sends at most two progress reports a second; the next report makes up for a lost one."""

    def __init__(self, run: RunLog, writer: DeltaWriter, tool_call_id: str) -> None:
        self._run, self._writer, self._call_id = run, writer, tool_call_id
        self._highest = 0.0
        self._next_s = 0.0

    @property
    def idempotency_key(self) -> str:
        """The key `<run>/<segment>/<call>`, which is the same on every attempt."""
        return f"{self._run.run.run_id}/{self._run.run.segment}/{self._call_id}"

    def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """See `ToolContext.progress`. A report is omitted if it comes too soon or too many deltas are in flight."""
        if not math.isfinite(progress):
            return
        now_s = asyncio.get_running_loop().time()
        self._highest = max(self._highest, progress)
        if now_s < self._next_s or not self._writer.has_room:
            return
        self._next_s = now_s + INTERVAL_S
        payload: JsonObject = {"tool_call_id": self._call_id, "run_id": self._run.run.run_id, "progress": self._highest}
        if total is not None and math.isfinite(total) and total >= 0:
            payload["total"] = total
        if message is not None:
            payload["message"] = storable_text(message, 500)
        self._writer.submit(self._run.draft("tool.call.progress", payload), _ignore)


def _ignore(_result: Result) -> None:
    """Ignore the result of sending a progress report: a lost one is superseded by the next."""
