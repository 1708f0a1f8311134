"""What an agent may use while it runs: people, steps, history, the wish to stop. It knows no Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from consumers.agents.agent import Answer, Output, Question, QuestionKind, ToolCall, ToolOutcome
from consumers.agents.said import Said
from projections.json_value import Json, JsonObject

if TYPE_CHECKING:
    from consumers.runs.performance import Performance


class Context:
    """One segment as its agent sees it."""

    def __init__(self, performance: Performance) -> None:
        self._performance = performance
        run = performance.run.run
        self.run_id = run.run_id
        self.agent = run.agent
        self.segment = run.segment
        self.attempt = run.attempt
        self.channel = performance.run.channel.wire

    @property
    def cancelled(self) -> asyncio.Event:
        """Set when somebody asked to stop. The agent has 5 s to come to an end by itself."""
        return self._performance.control.cancelled

    @property
    def answers(self) -> dict[str, Answer]:
        """Answers so far by tool call id, or by request id where a question was about no call."""
        requests = self._performance.run.journal.requests.values()
        found = ((record.tool_call_id or record.request_id, record.answer()) for record in requests)
        return {name: answer for name, answer in found if answer is not None}

    async def ask(
        self, prompt: str, *, kind: QuestionKind = "input", response_schema: JsonObject | None = None,
        assignees: Sequence[str] = (), expires_in_s: float | None = None,
    ) -> Answer:  # fmt: skip
        """Ask a person. The segment ends meanwhile; the agent is run again with the answer."""
        question = Question(
            prompt, kind, response_schema=response_schema, assignees=tuple(assignees), expires_in_s=expires_in_s
        )
        return (await self.ask_all([question]))[0]

    async def ask_all(self, questions: Sequence[Question]) -> list[Answer]:
        """Ask several questions at once; it goes on when all are answered."""
        return await self._performance.ask_all(questions)

    async def call(self, call: ToolCall) -> ToolOutcome:
        """Call a tool; the same as yielding it."""
        return (await self._performance.tooling.call_all([call]))[0]

    async def step(self, key: str, function: Callable[[], Awaitable[Json]]) -> Json:
        """Do something once and remember its result: a run that is repeated gets it from the log.

        What dies after `function` and before its result is stored does it again: give what it calls
        `idempotency_key(key)`, or use a `ToolCall` that is not idempotent, which is never repeated.
        """
        return await self._performance.step(key, function)

    def recorded(self, key: str) -> Json:
        """The result a step has in the log, None when it has none yet: to leave out what leads up to it."""
        return self._performance.run.journal.steps.get(key)

    def idempotency_key(self, key: str) -> str:
        """The same on every attempt."""
        return f"{self.run_id}/{key}"

    async def output(self, output: Output) -> None:
        """Append a value; the same as yielding it."""
        await self._performance.take_output(output)

    async def history(self, limit: int = 50) -> list[Said]:
        """The last messages of the branch this answer hangs on, oldest first, without the answer itself."""
        return await self._performance.past.branch(limit)

    def everything_said(self) -> AsyncIterator[Said]:
        """Every message of the channel up to this run, oldest first, whatever its branch."""
        return self._performance.past.everything()

    async def checkpoint(self) -> Json:
        """What `save_checkpoint` kept last, in this segment or an earlier one."""
        return await self._performance.load_checkpoint()

    async def save_checkpoint(self, value: Json) -> None:
        """Keep a state of one's own with the run, for agents that are not replayed (`resumes = True`)."""
        await self._performance.save_checkpoint(value)

    async def steering(self) -> list[str]:
        """Words people sent to this run since the last call."""
        return await self._performance.take_steering()
