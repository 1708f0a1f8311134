"""Executes an agent for one segment: appends to the log what the agent yields, and implements its context.

`segment` decides how a segment begins and ends.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

from consumers.agents.agent import (
    AgentFailed,
    AgentInput,
    Answer,
    Back,
    CallEnded,
    CallsBegun,
    Context,
    EndMessage,
    Item,
    Output,
    PastMessage,
    Question,
    Reasoning,
    Result,
    Stopped,
    ToolCall,
    ToolOutcome,
)
from consumers.agents.loading import ServedAgent
from consumers.runs.held_runs import Control
from consumers.runs.history import PastMessages
from consumers.runs.journal import STEP_PREFIX
from consumers.runs.messages import MessageEnding, RunMessages, checked_ending, require_files
from consumers.runs.parts import WorkerParts
from consumers.runs.questions import Questions
from consumers.runs.run_log import Fenced, RunLog
from consumers.runs.storable import checked
from consumers.runs.tools import ToolRunner
from projections.recorded import recorded
from streams.json_bytes import Json, JsonObject, to_json

YIELD_EVERY_S: Final = 0.005
"""Interval, in seconds, at which an agent that never awaits is interrupted so that other tasks can run."""


class Execution(Context):
    """The execution of an agent in one segment. It is also the context passed to the agent."""

    def __init__(
        self, parts: WorkerParts, run_log: RunLog, agent: ServedAgent, control: Control, *, parent: str, kept: str
    ) -> None:
        run = run_log.run
        self.run_id, self.agent, self.segment, self.attempt = run.run_id, run.agent, run.segment, run.attempt
        self.channel = run_log.channel.wire
        self.run_log, self.control = run_log, control
        self._parts, self._function = parts, agent.run
        is_replayed = not agent.resumes
        self.messages = RunMessages(
            run_log,
            parts.writer,
            control,
            parts.metrics,
            parts.faults,
            parent=parent,
            kept=kept,
            is_replayed=is_replayed,
        )
        first = 0 if is_replayed else len(run_log.journal.requests)
        self.questions = Questions(run_log, parts.faults, parts.now_ms, first)
        self._tools = ToolRunner(run_log, self.messages, self.questions, parts.writer, parts.faults)
        self._history = PastMessages(parts.log, run_log.channel, run.cause, parent)
        self.result: Json = None
        self._outputs_before = run_log.journal.agent_output_count if is_replayed else 0
        self._output_number = 0
        self._one_output = asyncio.Lock()
        self._steers_taken = 0

    async def run(self, given: AgentInput) -> None:
        """Run the agent until it ends.

        Raises:
            Suspended: the agent asked a question.
            Stopped: the run was asked to stop.
            Fenced: the run has another holder.
            Exception: an error of the agent itself.
        """
        generator = self._function(self, given)
        loop = asyncio.get_running_loop()
        yielded_s = loop.time()
        back: Back = None
        try:
            while True:
                try:
                    item = await generator.asend(back)
                except StopAsyncIteration:
                    break
                except SystemExit as error:  # it would end the worker and with it all other runs
                    raise AgentFailed("agent_exit", "the agent called exit") from error
                back = await self._take(item)
                if self.control.stop is not None:
                    raise Stopped
                if loop.time() - yielded_s > YIELD_EVERY_S:
                    await asyncio.sleep(0)
                    yielded_s = loop.time()
        finally:
            await generator.aclose()
        await self.messages.end(MessageEnding())

    async def _take(self, item: Item) -> Back:
        match item:
            case str():
                self.messages.add(item)
            case Reasoning():
                self.messages.add(item.text, "reasoning")
            case Output():
                await self.output(item)
            case EndMessage():
                ending = checked_ending(MessageEnding(item.finish_reason, item.usage, item.parts))
                await require_files(self.run_log.log, self.run_log.channel, ending.parts)
                await self.messages.end(ending)
            case Result():
                self.result = _checked_result(item.value)
            case ToolCall():
                return await self.call(item)
            case list():
                return await self._tools.call_all(item)
            case CallsBegun():
                await self._tools.append_begun(item)
            case CallEnded():
                await self._tools.append_ended(item)
            case _:
                raise AgentFailed("bad_item", f"the agent yielded a {type(item).__name__}")
        return None

    @property
    def cancelled(self) -> asyncio.Event:
        """See `Context.cancelled`."""
        return self.control.cancelled

    @property
    def answers(self) -> dict[str, Answer]:
        """See `Context.answers`."""
        requests = self.run_log.journal.requests.values()
        found = ((record.tool_call_id or record.request_id, record.answer()) for record in requests)
        return {name: answer for name, answer in found if answer is not None}

    async def ask_all(self, questions: Sequence[Question]) -> list[Answer]:
        """See `Context.ask_all`.

        The open message ended when the run started to wait, so it also ends here when the agent is replayed.
        """
        answers = await self.questions.ask_all(questions)
        await self.messages.end(MessageEnding("tool_calls"))
        return answers

    async def call(self, call: ToolCall) -> ToolOutcome:
        """See `Context.call`."""
        return (await self._tools.call_all([call]))[0]

    async def output(self, output: Output) -> None:
        """Append an output, unless the log has it from before the replay."""
        self._output_number += 1
        if self._output_number <= self._outputs_before:
            return
        await self.messages.flush()
        await self._append_output(output)

    async def step(self, key: str, function: Callable[[], Awaitable[Json]]) -> Json:
        """See `Context.step`."""
        steps = self.run_log.journal.steps
        if key in steps:
            self.messages.passed_step(key)
            return steps[key]
        name = f"{STEP_PREFIX}{key}"
        checked("agent.output", {"run_id": self.run_id, "index": 0, "kind": "log", "name": name, "value": None})
        await self.messages.flush()
        self._parts.faults.hit("run_before_step")
        result = await function()
        self._parts.faults.hit("run_after_step")
        message = self.run_log.journal.open_message
        value: JsonObject = {"result": result}
        if message is not None:
            value |= {"message_id": message.message_id, "kept": self.messages.text_length}
        await self._append_output(Output("log", value, name))
        return result

    def recorded(self, key: str) -> Json:
        """See `Context.recorded`."""
        return self.run_log.journal.steps.get(key)

    async def history(self, limit: int = 50) -> list[PastMessage]:
        """See `Context.history`."""
        return await self._history.branch(limit)

    def all_messages(self) -> AsyncIterator[PastMessage]:
        """See `Context.all_messages`."""
        return self._history.all_messages()

    async def checkpoint(self) -> Json:
        """See `Context.checkpoint`."""
        found = await self._parts.store.checkpoint(self.run_log.channel, self.run_id)
        value: Json = json.loads(found) if found is not None else None
        return value

    async def save_checkpoint(self, value: Json) -> None:
        """See `Context.save_checkpoint`."""
        text = to_json(value).decode()
        if not await self._parts.store.save_checkpoint(self.run_log.channel, self.run_id, self.run_log.holder, text):
            raise Fenced(self.run_id)

    async def steering(self) -> list[str]:
        """See `Context.steering`; also informs the senders that their texts were taken."""
        texts: list[str] = []
        while self._steers_taken < self.control.steers:
            self._steers_taken += 1
            event_id = await self._parts.store.steer(self.run_log.channel, self.run_id, self._steers_taken)
            entry = await self._parts.log.entry(self.run_log.channel, event_id) if event_id else None
            if entry is None or entry.is_erased:
                continue
            texts.append(str(recorded(entry).payload.get("text", "")))
            payload: JsonObject = {"message_id": event_id, "status": "applied", "run_id": self.run_id}
            await self.run_log.append_unless_done("message.status", payload, f"steer/{event_id}")
        return texts

    async def _append_output(self, output: Output) -> None:
        async with self._one_output:  # one at a time, so that the index has no gaps
            index = self.run_log.journal.output_count
            payload: JsonObject = {"run_id": self.run_id, "index": index, "kind": output.kind, "value": output.value}
            if output.name is not None:
                payload["name"] = output.name
            await self.run_log.append("agent.output", checked("agent.output", payload), f"output/{index}")


def _checked_result(value: Json) -> Json:
    """Check that the value can be stored in `agent.complete`, and return it as plain JSON."""
    if value is None:
        return None
    payload: JsonObject = {
        "run_id": "r",
        "agent": "a",
        "outcome": "success",
        "message_ids": [],
        "duration_ms": 0,
        "attempts": 1,
        "result": value,
    }
    return checked("agent.complete", payload)["result"]
