"""The journal: the record of a run so far, folded from its own events. Pure.

A new segment or attempt replays the agent with it, and closing a run uses it to find what is still open. It is folded from the
log, and the worker also applies every event that it appends; both give the same journal.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from consumers.agents.agent import Answer, Resolution
from streams.json_bytes import Json, JsonObject
from streams.records.runs import message_id_of

STEP_PREFIX: Final = "step:"
"""Prefix of the name of an `agent.output` of kind `log` that records a step's result."""


@dataclass(slots=True)
class MessageRecord:
    """A message of the run. `kept` is the length of the text before `last_step`, its last recorded step."""

    message_id: str
    attempt: int
    is_ended: bool = False
    kept: int = 0
    last_step: str | None = None


@dataclass(slots=True)
class CallRecord:
    """A tool call; open until its `outcome` is ok, denied or error."""

    tool_call_id: str
    name: str
    executor: str
    is_idempotent: bool
    outcome: str | None = None
    output: Json = None
    error: str | None = None
    message: str = ""


@dataclass(slots=True)
class RequestRecord:
    """A question; open until it is resolved. The stored response contains the answer."""

    request_id: str
    kind: str
    tool_call_id: str | None
    response: JsonObject | None = None
    resolution: Resolution | None = None
    by: str = ""

    def answer(self) -> Answer | None:
        """The answer as passed to the agent; None while the question is open."""
        if self.resolution is None:
            return None
        response = self.response or {}
        edited = response.get("edited_args")
        return Answer(
            self.resolution,
            self.by,
            response.get("result"),
            edited if isinstance(edited, dict) else None,
            str(response.get("reason", "")),
            str(response.get("error", "")),
        )


@dataclass(slots=True)
class Journal:
    """The journal of one run. Events must be applied in order."""

    run_id: str
    messages: list[MessageRecord] = field(default_factory=list)
    steps: dict[str, Json] = field(default_factory=dict)
    calls: dict[str, CallRecord] = field(default_factory=dict)
    requests: dict[str, RequestRecord] = field(default_factory=dict)
    usage: list[Json] = field(default_factory=list)
    output_count: int = 0
    agent_output_count: int = 0
    is_complete: bool = False

    @property
    def open_message(self) -> MessageRecord | None:
        """The message that has begun and not ended; None if there is none."""
        last = self.messages[-1] if self.messages else None
        return last if last and not last.is_ended else None

    @property
    def open_calls(self) -> list[CallRecord]:
        """Calls without an outcome, in the order in which they began."""
        return [call for call in self.calls.values() if call.outcome is None]

    @property
    def open_requests(self) -> list[RequestRecord]:
        """Questions that are not yet resolved."""
        return [request for request in self.requests.values() if request.resolution is None]

    @property
    def message_ids(self) -> list[Json]:
        """The IDs of all messages, for `agent.complete`."""
        return [message_id_of(self.run_id, number) for number in range(len(self.messages))]

    def apply(self, type_: str, payload: JsonObject) -> None:
        """Apply one event; events of other runs or types change nothing."""
        if type_ == "tool.call.response":
            request = self.requests.get(str(payload.get("request_id")))
            if request is not None and request.response is None:
                request.response = payload
        elif payload.get("run_id") == self.run_id and (handler := _HANDLERS.get(type_)) is not None:
            handler(self, payload)


def _start(journal: Journal, payload: JsonObject) -> None:
    message_id = str(payload["message_id"])
    if not any(message.message_id == message_id for message in journal.messages):
        journal.messages.append(MessageRecord(message_id, _int(payload, "attempt", 1)))


def _reset(journal: Journal, payload: JsonObject) -> None:
    if (message := journal.open_message) is not None:
        message.attempt = _int(payload, "attempt", 1)


def _end(journal: Journal, payload: JsonObject) -> None:
    for message in journal.messages:
        if message.message_id == payload["message_id"]:
            message.is_ended = True
    if isinstance(usage := payload.get("usage"), dict):
        journal.usage.append(usage)


def _output(journal: Journal, payload: JsonObject) -> None:
    journal.output_count = _int(payload, "index", 0) + 1
    name, value = str(payload.get("name", "")), payload.get("value")
    if payload.get("kind") != "log" or not name.startswith(STEP_PREFIX) or not isinstance(value, dict):
        journal.agent_output_count += 1
        return
    key = name.removeprefix(STEP_PREFIX)
    journal.steps[key] = value.get("result")
    message = journal.open_message
    if message is not None and value.get("message_id") == message.message_id:
        message.kept, message.last_step = _int(value, "kept", 0), key


def _call(journal: Journal, payload: JsonObject) -> None:
    call_id = str(payload["tool_call_id"])
    journal.calls[call_id] = CallRecord(
        call_id, str(payload["name"]), str(payload["executor"]), payload.get("idempotent") is True
    )


def _call_complete(journal: Journal, payload: JsonObject) -> None:
    if (call := journal.calls.get(str(payload["tool_call_id"]))) is not None:
        call.outcome, call.output = str(payload["outcome"]), payload.get("output")


def _call_error(journal: Journal, payload: JsonObject) -> None:
    if (call := journal.calls.get(str(payload["tool_call_id"]))) is not None:
        call.outcome, call.error, call.message = "error", str(payload["reason"]), str(payload["message"])


def _request(journal: Journal, payload: JsonObject) -> None:
    request_id, call_id = str(payload["request_id"]), payload.get("tool_call_id")
    journal.requests[request_id] = RequestRecord(
        request_id, str(payload["kind"]), str(call_id) if call_id is not None else None
    )


def _resolved(journal: Journal, payload: JsonObject) -> None:
    if (request := journal.requests.get(str(payload["request_id"]))) is not None:
        resolution: Resolution = payload["resolution"]  # type: ignore[assignment]  # our own event
        if payload.get("edited") is True and "edited_args" not in (request.response or {}):
            resolution = "denied"  # the answer was erased: a call must not run with arguments that nobody approved
        request.resolution, request.by = resolution, str(payload.get("by", ""))


def _complete(journal: Journal, _payload: JsonObject) -> None:
    journal.is_complete = True


def _int(payload: JsonObject, name: str, default: int) -> int:
    value = payload.get(name, default)
    return value if isinstance(value, int) else default


_HANDLERS: Final = {
    "assistant.message.start": _start,
    "assistant.message.reset": _reset,
    "assistant.message.end": _end,
    "agent.output": _output,
    "tool.call.start": _call,
    "tool.call.complete": _call_complete,
    "tool.call.error": _call_error,
    "tool.call.request": _request,
    "tool.call.resolved": _resolved,
    "agent.complete": _complete,
}
