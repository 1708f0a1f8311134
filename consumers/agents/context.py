"""The interface an agent uses while it runs: people, tools, steps, history, checkpoints, cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from typing import Protocol, TypeAlias

from consumers.agents.agent import (
    AgentInput,
    Answer,
    Back,
    Item,
    Output,
    PastMessage,
    Question,
    QuestionKind,
    ToolCall,
    ToolOutcome,
)
from streams.json_bytes import Json, JsonObject


class Context(Protocol):
    """One segment of a run, as its agent sees it.

    Attributes:
        channel: as on the wire, `conversation:42`.
        segment, attempt: both count from 1; see docs/protocol.md#runs.
    """

    run_id: str
    agent: str
    channel: str
    segment: int
    attempt: int

    @property
    def cancelled(self) -> asyncio.Event:
        """Set when somebody asked to stop. The agent has 5 s to finish by itself."""

    @property
    def answers(self) -> dict[str, Answer]:
        """Answers so far by tool call id, or by request id where a question was not about a call."""

    async def ask(
        self,
        prompt: str,
        *,
        kind: QuestionKind = "input",
        response_schema: JsonObject | None = None,
        assignees: Sequence[str] = (),
        expires_in_s: float | None = None,
    ) -> Answer:
        """Ask a person. The segment ends meanwhile; the agent is run again with the answer."""
        question = Question(
            prompt, kind, response_schema=response_schema, assignees=tuple(assignees), expires_in_s=expires_in_s
        )
        return (await self.ask_all([question]))[0]

    async def ask_all(self, questions: Sequence[Question]) -> list[Answer]:
        """Ask several questions at once; returns when all are answered."""

    async def call(self, call: ToolCall) -> ToolOutcome:
        """Call a tool; the same as yielding it."""

    async def step(self, key: str, function: Callable[[], Awaitable[Json]]) -> Json:
        """Do something once and record its result: a repeated run gets it from the log.

        If the worker dies after `function` and before its result is stored, the step is repeated: pass
        `idempotency_key(key)` to the service it calls, or use a `ToolCall` that is not idempotent, which is never repeated.
        """

    def recorded(self, key: str) -> Json:
        """The recorded result of a step, None when there is none yet: lets an agent skip what leads up to it."""

    def idempotency_key(self, key: str) -> str:
        """A key that is the same on every attempt."""
        return f"{self.run_id}/{key}"

    async def output(self, output: Output) -> None:
        """Append a value; the same as yielding it."""

    async def history(self, limit: int = 50) -> list[PastMessage]:
        """The last messages of the branch this answer hangs on, oldest first, without the answer itself."""

    def all_messages(self) -> AsyncIterator[PastMessage]:
        """Every message of the channel up to this run, oldest first, on any branch."""

    async def checkpoint(self) -> Json:
        """The value `save_checkpoint` kept last, in this segment or an earlier one; None when there is none."""

    async def save_checkpoint(self, value: Json) -> None:
        """Keep a value with the run, for agents that are not replayed (`resumes = True`)."""

    async def steering(self) -> list[str]:
        """Texts people sent to this run since the last call."""


RunFunction: TypeAlias = Callable[[Context, AgentInput], AsyncGenerator[Item, Back]]
