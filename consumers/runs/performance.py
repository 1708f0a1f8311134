"""One segment's play of an agent: takes what it yields to the log. How a segment begins and ends is not known here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from consumers.agents.agent import (
    AgentFailed,
    AgentInput,
    Answer,
    Back,
    CallEnded,
    CallsBegun,
    EndMessage,
    Item,
    Output,
    Question,
    Reasoning,
    Result,
    Stopped,
    ToolCall,
)
from consumers.agents.asking import Asking
from consumers.agents.context import Context
from consumers.agents.history import Past
from consumers.agents.messages import Ending, Voice, checked_ending
from consumers.agents.storable import given
from consumers.agents.tools import Tooling
from consumers.groups.delivery import event_at
from consumers.runs.control import Control, Fenced
from consumers.runs.journal import STEP_PREFIX
from consumers.runs.run_log import RunLog
from consumers.runs.services import ServedAgent, Services
from projections.json_value import Json, JsonObject, canonical
from projections.recorded import recorded

BREATH_S: Final = 0.005
"""An agent that never awaits lets the others breathe this often."""


class Performance:
    """The agent, its context, and where its items go."""

    def __init__(
        self, services: Services, run: RunLog, agent: ServedAgent, control: Control, *, parent: str, kept: str
    ) -> None:
        self.run, self.control = run, control
        self._services, self._agent = services, agent
        is_replayed = not agent.resumes
        self.voice = Voice(
            run, services.writer, control, services.meters, services.faults,
            parent=parent, kept=kept, is_replayed=is_replayed,
        )  # fmt: skip
        first = 0 if is_replayed else len(run.journal.requests)
        self.asking = Asking(run, services.faults, services.now_ms, first)
        self.tooling = Tooling(run, self.voice, self.asking, services.writer, services.faults)
        self.past = Past(services.log, run.channel, run.run.cause, parent)
        self.result: Json = None
        self._outputs_before = run.journal.agent_output_count if is_replayed else 0
        self._output_number = 0
        self._one_output = asyncio.Lock()
        self._steers_taken = 0

    async def play(self, about: AgentInput) -> None:
        """Run the agent to its end.

        Raises:
            Suspended: it asked somebody.
            Stopped: it was asked to stop.
            Fenced: the run has another holder.
            Exception: the agent's own.
        """
        generator = self._agent.run(Context(self), about)
        loop = asyncio.get_running_loop()
        breath_s = loop.time()
        back: Back = None
        try:
            while True:
                try:
                    item = await generator.asend(back)
                except StopAsyncIteration:
                    break
                except SystemExit as error:  # it would end the worker, with everybody else's runs
                    raise AgentFailed("agent_exit", "the agent called exit") from error
                back = await self._take(item)
                if self.control.stop is not None:
                    raise Stopped
                if loop.time() - breath_s > BREATH_S:
                    await asyncio.sleep(0)
                    breath_s = loop.time()
        finally:
            await generator.aclose()
        await self.voice.end(Ending())

    async def _take(self, item: Item) -> Back:
        match item:
            case str():
                self.voice.say(item)
            case Reasoning():
                self.voice.say(item.text, "reasoning")
            case Output():
                await self.take_output(item)
            case EndMessage():
                await self.voice.end(checked_ending(Ending(item.finish_reason, item.usage, item.parts)))
            case Result():
                self.result = _checked_result(item.value)
            case ToolCall():
                return (await self.tooling.call_all([item]))[0]
            case list():
                return await self.tooling.call_all(item)
            case CallsBegun():
                await self.tooling.tell_begun(item)
            case CallEnded():
                await self.tooling.tell_ended(item)
            case _:
                raise AgentFailed("bad_item", f"the agent yielded a {type(item).__name__}")
        return None

    async def ask_all(self, questions: Sequence[Question]) -> list[Answer]:
        """Ask people; the message that was open ended when the run began to wait, so it ends here in a replay too."""
        answers = await self.asking.ask_all(questions)
        await self.voice.end(Ending("tool_calls"))
        return answers

    async def take_output(self, output: Output) -> None:
        """Append an output, unless the replayed agent gave it before."""
        self._output_number += 1
        if self._output_number <= self._outputs_before:
            return
        await self.voice.flush()
        await self._append_output(output)

    async def step(self, key: str, function: Callable[[], Awaitable[Json]]) -> Json:
        """Do something once; see `Context.step`."""
        steps = self.run.journal.steps
        if key in steps:
            self.voice.passed_step(key)
            return steps[key]
        given(
            "agent.output",
            {"run_id": self.run.run.run_id, "index": 0, "kind": "log", "name": f"{STEP_PREFIX}{key}", "value": None},
        )
        await self.voice.flush()
        self._services.faults.hit("run_before_step")
        result = await function()
        self._services.faults.hit("run_after_step")
        message = self.run.journal.open_message
        value: JsonObject = {"result": result}
        if message is not None:
            value |= {"message_id": message.message_id, "kept": self.voice.said_count}
        await self._append_output(Output("log", value, f"{STEP_PREFIX}{key}"))
        return result

    async def load_checkpoint(self) -> Json:
        """What was saved last, None when nothing was."""
        found = await self._services.store.checkpoint(self.run.channel, self.run.run.run_id)
        value: Json = json.loads(found) if found is not None else None
        return value

    async def save_checkpoint(self, value: Json) -> None:
        """Keep a value with the run."""
        text = canonical(value).decode()
        if not await self._services.store.save_checkpoint(self.run.channel, self.run.run.run_id, self.run.holder, text):
            raise Fenced(self.run.run.run_id)

    async def take_steering(self) -> list[str]:
        """Words sent to the run since the last call, and the word to their senders that they were taken."""
        words: list[str] = []
        while self._steers_taken < self.control.steers:
            self._steers_taken += 1
            event_id = await self._services.store.steer(self.run.channel, self.run.run.run_id, self._steers_taken)
            entry = await event_at(self._services.log, self.run.channel, event_id) if event_id else None
            if entry is None:
                continue
            words.append(str(recorded(entry).payload.get("text", "")))
            payload: JsonObject = {"message_id": event_id, "status": "applied", "run_id": self.run.run.run_id}
            await self.run.append_unless_done("message.status", payload, f"steer/{event_id}")
        return words

    async def _append_output(self, output: Output) -> None:
        async with self._one_output:  # the index has no holes: one at a time
            index = self.run.journal.output_count
            payload: JsonObject = {
                "run_id": self.run.run.run_id, "index": index, "kind": output.kind, "value": output.value,
            }  # fmt: skip
            if output.name is not None:
                payload["name"] = output.name
            await self.run.append("agent.output", given("agent.output", payload), f"output/{index}")


def _checked_result(value: Json) -> Json:
    """What `agent.complete` can carry."""
    if value is None:
        return None
    payload: JsonObject = {
        "run_id": "r", "agent": "a", "outcome": "success", "message_ids": [], "duration_ms": 0, "attempts": 1, "result": value,
    }  # fmt: skip
    return given("agent.complete", payload)["result"]
