"""The interface of an agent: the items it yields, its input, the outcomes it receives, and the context of its run.

An agent is an async generator function `run(ctx, input)`, or an object with such a method. It yields text (`str`), `Reasoning`,
`Output`, `ToolCall` (and receives its `ToolOutcome`: `found = yield ToolCall(...)`), `EndMessage` between two model responses,
and `Result`; it can await `ctx.ask`, `ctx.step` and `ctx.history`.

The hub may run it again from its first line, with its earlier results taken from the log (ops/decisions/0006-runs.md). So its
decisions must depend only on its input, `ctx` and recorded steps, not on a clock or on randomness.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, TypeAlias

from streams.json_bytes import Json, JsonObject

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "cancelled", "error"]
"""The reason why a message ended; `stop` is the usual one."""
OutputKind = Literal["text", "json", "artifact", "log", "state_snapshot", "state_delta", "custom"]
"""The kind of an output beside the text."""
Executor = Literal["server", "client", "provider", "human"]
"""The party that carries out a tool call."""
QuestionKind = Literal["approval", "input", "client_tool", "confirmation"]
"""The kind of a question, which tells clients what to show."""
Resolution = Literal["approved", "denied", "answered", "expired", "cancelled"]
"""The way in which a question was settled."""


@dataclass(frozen=True, slots=True)
class AgentInput:
    """The input of a run.

    Attributes:
        text: the message; the JSON input of an `agent.invoke` is in `value` instead.
        by: the user who started the run.
        context: data sent with the message: never instructions.
        settings: the conversation's settings at the start of the run, overridden by those of the command.
        parent: the ID of the message that the answer replies to.
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
    """A value that accompanies the text; the run assigns its index."""

    kind: OutputKind
    value: Json
    name: str | None = None


@dataclass(frozen=True, slots=True)
class EndMessage:
    """Ends the current message; later text begins the next one. Tool calls and the end of the run imply it."""

    finish_reason: FinishReason = "stop"
    usage: JsonObject | None = None
    parts: tuple[JsonObject, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """The `result` of `agent.complete`. If there are several, the last one counts."""

    value: Json


INVOKER: Final = ("<invoker>",)
"""Placeholder among a question's assignees for the user who started the run. It is not a valid user name."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question to people, or a request to run a client's tool.

    Attributes:
        assignees: the users who may answer; if empty, every user who may invoke the agent. `INVOKER` is the user who started
            the run.
        expires_in_s: time without an answer after which the run expires; None is a day.
        tool_call_id: the call that the question is about, if any.
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
    """The answer to a question. An approval counts as denied unless a user approved it.

    Attributes:
        value: the answer to a question of kind `input`, or the result of a client's tool.
        edited_args: replaces all arguments of the call; None if they were not edited.
    """

    resolution: Resolution
    by: str = ""
    value: Json = None
    edited_args: JsonObject | None = None
    reason: str = ""
    error: str = ""

    @property
    def is_approved(self) -> bool:
        """True if the call was approved."""
        return self.resolution == "approved"


class ToolContext(Protocol):
    """The interface that a tool can use while it runs."""

    @property
    def idempotency_key(self) -> str:
        """A key that is the same on every attempt: pass it to a service so that it does not act twice."""

    def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """Report progress. At most two reports a second are sent, and the value never decreases."""


ToolFunction: TypeAlias = "Callable[[JsonObject, ToolContext], Awaitable[Json]]"
"""A tool: called with its arguments, it returns its result."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool.

    Attributes:
        run: the function; None for a tool that a client runs (`executor` is `client`).
        tool_call_id: the provider's ID; None numbers the calls of the run.
        is_idempotent: the call may be repeated if its worker is lost while it runs.
        approval: the question asked before the call runs; if it is denied, the call does not run.
        is_sensitive: the call never runs without an approval, which only the user who started the run may give, unless
            `approval` names others.
        validate: checks the arguments before each use, also after they were edited, and returns the ones to use; raises
            ValueError to reject them.
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
    """The outcome of a call: its output, a denial, or an error with a reason as in `tool.call.error`."""

    tool_call_id: str
    output: Json = None
    is_denied: bool = False
    error: str | None = None
    message: str = ""

    @property
    def is_ok(self) -> bool:
        """True if the tool ran to completion."""
        return not self.is_denied and self.error is None


@dataclass(frozen=True, slots=True)
class CallsBegun:
    """Reports calls that the agent's framework runs itself; the hub only records them. A `CallEnded` follows for each.

    Attributes:
        message_calls: the IDs of all calls of a response, given with its first call; () for later calls of the same response.
    """

    calls: tuple[ToolCall, ...]
    message_calls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CallEnded:
    """Reports the outcome of a call announced by `CallsBegun`."""

    outcome: ToolOutcome
    duration_ms: int = 0


Item: TypeAlias = "str | Reasoning | Output | EndMessage | Result | ToolCall | list[ToolCall] | CallsBegun | CallEnded"
"""A value that an agent may yield: text, a tool call or several at once, an output, reasoning, the end of a message."""
Back: TypeAlias = "ToolOutcome | list[ToolOutcome] | None"
"""The value that `yield` returns: the outcome of a tool call, or of each of several."""


class Suspended(BaseException):
    """Ends the segment until the open questions are answered.

    It is not an Exception, so that an agent's `except Exception` does not catch it.
    """


class Stopped(Exception):
    """To be raised by an agent that has stopped on request: the run ends as cancelled."""


class AgentFailed(Exception):
    """To be raised by an agent to fail the run with this `agent.complete.error`.

    Attributes:
        code: a short identifier for programs.
        is_retryable: another run may succeed.
    """

    def __init__(self, code: str, message: str, *, is_retryable: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.is_retryable = is_retryable


@dataclass(frozen=True, slots=True)
class PastMessage:
    """A message of the channel's history, with its author, time (milliseconds since 1970) and text."""

    message_id: str
    role: Literal["user", "assistant"]
    by: str
    text: str
    at_ms: int


class Context(Protocol):
    """The context in which an agent executes one segment of a run.

    Attributes:
        channel: the channel in wire form, such as `conversation:42`.
        segment, attempt: both count from 1; see docs/protocol.md#runs.
    """

    run_id: str
    agent: str
    channel: str
    segment: int
    attempt: int

    @property
    def cancelled(self) -> asyncio.Event:
        """Set when the run is asked to stop. The agent then has 5 s to finish by itself."""

    @property
    def answers(self) -> dict[str, Answer]:
        """The answers so far, by tool call ID, or by request ID for questions that are not about a call."""

    async def ask(
        self,
        prompt: str,
        *,
        kind: QuestionKind = "input",
        response_schema: JsonObject | None = None,
        assignees: Sequence[str] = (),
        expires_in_s: float | None = None,
    ) -> Answer:
        """Ask a person. The segment ends while the question is open; the agent is then run again and receives the answer here."""
        question = Question(
            prompt, kind, response_schema=response_schema, assignees=tuple(assignees), expires_in_s=expires_in_s
        )
        return (await self.ask_all([question]))[0]

    async def ask_all(self, questions: Sequence[Question]) -> list[Answer]:
        """Ask several questions at once; returns when all are answered."""

    async def call(self, call: ToolCall) -> ToolOutcome:
        """Call a tool; the same as yielding it."""

    async def step(self, key: str, function: Callable[[], Awaitable[Json]]) -> Json:
        """Run a function once and record its result; when the agent is replayed, the recorded result is returned.

        If the worker dies after `function` and before the result is stored, the step is repeated. So pass
        `idempotency_key(key)` to the service that it calls, or use a `ToolCall` that is not idempotent, which is never
        repeated.
        """

    def recorded(self, key: str) -> Json:
        """The recorded result of a step; None if there is none. It lets an agent skip the work that precedes the step."""

    def idempotency_key(self, key: str) -> str:
        """A key for the step `key` that is the same on every attempt."""
        return f"{self.run_id}/{key}"

    async def output(self, output: Output) -> None:
        """Append a value; the same as yielding it."""

    async def history(self, limit: int = 50) -> list[PastMessage]:
        """The last messages of the answer's branch, oldest first, without the answer itself."""

    def all_messages(self) -> AsyncIterator[PastMessage]:
        """All messages of the channel up to this run, on every branch, oldest first."""

    async def checkpoint(self) -> Json:
        """The value last stored by `save_checkpoint`, in this or an earlier segment; None if there is none."""

    async def save_checkpoint(self, value: Json) -> None:
        """Store a value with the run, for agents that are not replayed (`resumes = True`)."""

    async def steering(self) -> list[str]:
        """The texts that people have sent to this run since the last call."""


RunFunction: TypeAlias = Callable[[Context, AgentInput], AsyncGenerator[Item, Back]]
"""An agent: an async generator function."""
