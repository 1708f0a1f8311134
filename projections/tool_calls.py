"""Tool calls under way, and the questions that wait for a person or a client. Pure.

A question is open until `tool.call.resolved`, not until somebody answered: the answer may still be refused. What ends
with its run ends here too, so a lost worker leaves no question behind.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Final

from projections.fields import text
from projections.projection import Dumped, DurableProjection, Home
from projections.recorded import Recorded
from streams.json_bytes import Json, JsonObject


@dataclass(frozen=True, slots=True)
class Call:
    """A call without a result yet. Its arguments stay in the log."""

    tool_call_id: str
    run_id: str
    message_id: str
    name: str
    executor: str
    is_idempotent: bool


@dataclass(slots=True)
class ToolCalls:
    """Calls by `tool_call_id`, payloads of open requests by `request_id`; both in the order they came."""

    calls: dict[str, Call] = field(default_factory=dict)
    pending: dict[str, JsonObject] = field(default_factory=dict)


def _start(state: ToolCalls, event: Recorded) -> None:
    is_idempotent = event.payload.get("idempotent") is True
    call = Call(
        text(event, "tool_call_id"), text(event, "run_id"), text(event, "message_id"), text(event, "name"),
        text(event, "executor"), is_idempotent,
    )  # fmt: skip
    state.calls[call.tool_call_id] = call


def _finish(state: ToolCalls, event: Recorded) -> None:
    state.calls.pop(text(event, "tool_call_id"), None)


def _request(state: ToolCalls, event: Recorded) -> None:
    request_id, _ = text(event, "request_id"), text(event, "run_id")
    state.pending[request_id] = event.payload


def _resolved(state: ToolCalls, event: Recorded) -> None:
    state.pending.pop(text(event, "request_id"), None)


def _complete(state: ToolCalls, event: Recorded) -> None:
    run_id = text(event, "run_id")
    state.calls = {name: call for name, call in state.calls.items() if call.run_id != run_id}
    state.pending = {name: asked for name, asked in state.pending.items() if asked.get("run_id") != run_id}


def _initial(_home: Home) -> ToolCalls:
    return ToolCalls()


def _render(state: ToolCalls) -> JsonObject:
    return {"pending_requests": [*state.pending.values()]}


def _dump(state: ToolCalls) -> Json:
    calls: list[Json] = [asdict(call) for call in state.calls.values()]
    return {"calls": calls, "pending": [*state.pending.values()]}


def _load(_home: Home, value: Dumped) -> ToolCalls:
    calls = {call["tool_call_id"]: Call(**call) for call in value["calls"]}
    return ToolCalls(calls, {asked["request_id"]: asked for asked in value["pending"]})


TOOL_CALLS: Final = DurableProjection(
    name="tool_calls",
    version=1,
    initial=_initial,
    handlers={
        "tool.call.start": _start, "tool.call.complete": _finish, "tool.call.error": _finish,
        "tool.call.request": _request, "tool.call.resolved": _resolved, "agent.complete": _complete,
    },
    render=_render,
    dump=_dump,
    load=_load,
)  # fmt: skip
"""`pending_requests` of conversations and agents."""
