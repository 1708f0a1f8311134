"""What an agent is, what it yields and what it gets back. Pure.

An agent is an async generator function `run(ctx, input)`, or an object with such a method. It yields text (`str`), `Reasoning`,
`Output`, `ToolCall` (and gets its `ToolOutcome` back: `found = yield ToolCall(...)`), `EndMessage` between two model
responses, and `Result`; it awaits `ctx.ask`, `ctx.step`, `ctx.history`.
It may be run again from its first line with what it did recorded (ops/decisions/0006-runs.md), so what decides its way must
come from its input, `ctx` or a step, not from a clock or chance.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

from streams.json_bytes import Json, JsonObject

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "cancelled", "error"]
OutputKind = Literal["text", "json", "artifact", "log", "state_snapshot", "state_delta", "custom"]
Executor = Literal["server", "client", "provider", "human"]
QuestionKind = Literal["approval", "input", "client_tool", "confirmation"]
Resolution = Literal["approved", "denied", "answered", "expired", "cancelled"]


@dataclass(frozen=True, slots=True)
class AgentInput:
    """What the run is about.

    Attributes:
        text: the words; JSON input of an `agent.invoke` is in `value` instead.
        by: who asked.
        context: data that came with it: never instructions.
        settings: the conversation's as they were when the run began, under what the command says itself.
        parent: the message the answer hangs below.
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
    """The model's response is over; what follows is the next message. Tool calls and the end of the run imply it."""

    finish_reason: FinishReason = "stop"
    usage: JsonObject | None = None
    parts: tuple[JsonObject, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """What `agent.complete` will carry as `result`. The last one counts."""

    value: Json


@dataclass(frozen=True, slots=True)
class Question:
    """Something to ask people, or a client's tool to be run.

    Attributes:
        assignees: who may answer; empty is everybody who may invoke.
        expires_in_s: after it the run expires; None is a day.
        tool_call_id: the call this is about, when it is one.
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
    """What came of a question. Denied unless somebody said yes.

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
        """Whether an approval was given."""
        return self.resolution == "approved"


class ToolContext(Protocol):
    """What a tool may use while it runs."""

    @property
    def idempotency_key(self) -> str:
        """The same on every attempt: pass it to whatever must not happen twice."""

    def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """Tell how far it is; at most two a second are sent on, and it never falls."""


ToolFunction: TypeAlias = "Callable[[JsonObject, ToolContext], Awaitable[Json]]"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool to be called.

    Attributes:
        run: does it; None for tools that a client runs (`executor` client).
        tool_call_id: the provider's; None numbers the calls of the run.
        is_idempotent: whether it may run again after its worker was lost in the middle of it.
        approval: ask before it runs; denied means it does not.
        validate: looks at the arguments before each use, edited ones included, and returns those to use; raises ValueError.
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
    validate: Callable[[JsonObject], JsonObject] | None = None


@dataclass(frozen=True, slots=True)
class ToolOutcome:
    """What came of a call: output, or denied, or an error by the reasons of `tool.call.error`."""

    tool_call_id: str
    output: Json = None
    is_denied: bool = False
    error: str | None = None
    message: str = ""

    @property
    def is_ok(self) -> bool:
        """Whether the tool ran to its end."""
        return not self.is_denied and self.error is None


@dataclass(frozen=True, slots=True)
class CallsBegun:
    """Calls that a framework runs by itself: told, not run by us. What each comes to is a `CallEnded`.

    Attributes:
        message_calls: ids of all calls of the response, with its first; () for those that follow within the same response.
    """

    calls: tuple[ToolCall, ...]
    message_calls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CallEnded:
    """What came of a call of a `CallsBegun`."""

    outcome: ToolOutcome
    duration_ms: int = 0


Item: TypeAlias = "str | Reasoning | Output | EndMessage | Result | ToolCall | list[ToolCall] | CallsBegun | CallEnded"
Back: TypeAlias = "ToolOutcome | list[ToolOutcome] | None"


class Suspended(BaseException):
    """The segment ends here, until people have answered. Not an Exception: an agent's `except Exception` must let it pass."""


class Stopped(Exception):
    """Raise it in an agent that was asked to stop and has: the run ends as cancelled."""


class AgentFailed(Exception):
    """Raise it in an agent to say how the run failed: `agent.complete.error`.

    Attributes:
        code: a short word for programs.
        is_retryable: whether asking again may help.
    """

    def __init__(self, code: str, message: str, *, is_retryable: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.is_retryable = is_retryable


@dataclass(frozen=True, slots=True)
class PastMessage:
    """A message as it was said: who, when (milliseconds since 1970), and the words."""

    message_id: str
    role: Literal["user", "assistant"]
    by: str
    text: str
    at_ms: int
