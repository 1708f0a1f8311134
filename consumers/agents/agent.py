"""The interface an agent is written with: its items, input and outcomes, and the context it runs in.

An agent is an async generator function `run(ctx, input)`, or an object with such a method. It yields text (`str`), `Reasoning`,
`Output`, `ToolCall` (and gets its `ToolOutcome` back: `found = yield ToolCall(...)`), `EndMessage` between two model
responses, and `Result`; it awaits `ctx.ask`, `ctx.step`, `ctx.history`.
It may be run again from its first line, with its earlier results taken from the log (ops/decisions/0006-runs.md). So its
decisions must depend on its input, `ctx` and steps only, not on a clock or on chance.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, TypeAlias

from streams.json_bytes import Json, JsonObject

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "cancelled", "error"]
OutputKind = Literal["text", "json", "artifact", "log", "state_snapshot", "state_delta", "custom"]
Executor = Literal["server", "client", "provider", "human"]
QuestionKind = Literal["approval", "input", "client_tool", "confirmation"]
Resolution = Literal["approved", "denied", "answered", "expired", "cancelled"]


@dataclass(frozen=True, slots=True)
class AgentInput:
    """The input of a run.

    Attributes:
        text: the message; JSON input of an `agent.invoke` is in `value` instead.
        by: the user who asked.
        context: data that came with the question: never instructions.
        settings: the conversation's when the run began, overridden by those of the command.
        parent: the message the answer replies to.
    """

    text: str
    by: str
    value: Json = None
    parts: tuple[JsonObject, ...] = ()
    context: tuple[JsonObject, ...] = ()
    client_tools: tuple[JsonObject, ...] = ()
    settings: JsonObject = field(default_factory=dict)
    metadata: JsonObject = field(default_factory=dict)
    parent: str = ""


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A piece of the reasoning track."""

    text: str


@dataclass(frozen=True, slots=True)
class Output:
    """A value beside the text; its index is counted by the run."""

    kind: OutputKind
    value: Json
    name: str | None = None


@dataclass(frozen=True, slots=True)
class EndMessage:
    """Ends the current message; what follows begins the next one. Tool calls and the end of the run imply it."""

    finish_reason: FinishReason = "stop"
    usage: JsonObject | None = None
    parts: tuple[JsonObject, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """The `result` of `agent.complete`. The last one counts."""

    value: Json


INVOKER: Final = ("<invoker>",)
"""Among the assignees of a question: whoever asked for the run. No user's name is written so."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question to people, or a request to run a client's tool.

    Attributes:
        assignees: the users who may answer; empty is everybody who may invoke the agent, `INVOKER` whoever asked for the run.
        expires_in_s: the run expires after this time without an answer; None is a day.
        tool_call_id: the call the question is about, if any.
    """

    prompt: str
    kind: QuestionKind = "input"
    name: str | None = None
    args: JsonObject | None = None
    response_schema: JsonObject | None = None
    allow_edit: bool = False
    assignees: tuple[str, ...] = ()
    expires_in_s: float | None = None
    tool_call_id: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a question; denied unless somebody approved.

    Attributes:
        value: the `result` of an input or a client's tool.
        edited_args: replaces all arguments of the call; None when they were not edited.
    """

    resolution: Resolution
    by: str = ""
    value: Json = None
    edited_args: JsonObject | None = None
    reason: str = ""
    error: str = ""

    @property
    def is_approved(self) -> bool:
        """True when an approval was given."""
        return self.resolution == "approved"


class ToolContext(Protocol):
    """The interface a tool uses while it runs."""

    @property
    def idempotency_key(self) -> str:
        """A key that is the same on every attempt: pass it to a service that must not act twice."""

    def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """Report progress; at most two reports a second are sent, and the value never falls."""


ToolFunction: TypeAlias = "Callable[[JsonObject, ToolContext], Awaitable[Json]]"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool.

    Attributes:
        run: the function; None for tools that a client runs (`executor` client).
        tool_call_id: the provider's id; None numbers the calls of the run.
        is_idempotent: the call may run again if its worker is lost while it runs.
        approval: asked before the call runs; if denied, it does not run.
        is_sensitive: it never runs without an approval, which is the invoker's alone unless `approval` names others.
        validate: checks the arguments before each use, edited ones included, and returns those to use; raises ValueError.
    """

    name: str
    args: JsonObject
    run: ToolFunction | None = None
    tool_call_id: str | None = None
    title: str | None = None
    executor: Executor = "server"
    is_idempotent: bool = False
    is_redacted: bool = False
    timeout_s: float | None = None
    approval: Question | None = None
    is_sensitive: bool = False
    validate: Callable[[JsonObject], JsonObject] | None = None


@dataclass(frozen=True, slots=True)
class ToolOutcome:
    """The outcome of a call: output, denied, or an error with a reason of `tool.call.error`."""

    tool_call_id: str
    output: Json = None
    is_denied: bool = False
    error: str | None = None
    message: str = ""

    @property
    def is_ok(self) -> bool:
        """True when the tool ran to its end."""
        return not self.is_denied and self.error is None


@dataclass(frozen=True, slots=True)
class CallsBegun:
    """Calls that a framework runs itself: the hub only records them. A `CallEnded` follows for each.

    Attributes:
        message_calls: ids of all calls of the response, with its first; () for those that follow within the same response.
    """

    calls: tuple[ToolCall, ...]
    message_calls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CallEnded:
    """The outcome of a call of a `CallsBegun`."""

    outcome: ToolOutcome
    duration_ms: int = 0


Item: TypeAlias = "str | Reasoning | Output | EndMessage | Result | ToolCall | list[ToolCall] | CallsBegun | CallEnded"
Back: TypeAlias = "ToolOutcome | list[ToolOutcome] | None"


class Suspended(BaseException):
    """Ends the segment until people have answered. Not an Exception: an agent's `except Exception` must let it pass."""


class Stopped(Exception):
    """Raise it in an agent that has stopped on request: the run ends as cancelled."""


class AgentFailed(Exception):
    """Raise it in an agent to fail the run with this `agent.complete.error`.

    Attributes:
        code: a short word for programs.
        is_retryable: asking again may help.
    """

    def __init__(self, code: str, message: str, *, is_retryable: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.is_retryable = is_retryable


@dataclass(frozen=True, slots=True)
class PastMessage:
    """A message of the channel's history: author, time (milliseconds since 1970) and text."""

    message_id: str
    role: Literal["user", "assistant"]
    by: str
    text: str
    at_ms: int


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
