"""Reactions to tool.call.response: the question is resolved on every device, and the run continues after the last one.

The hub let the first answer through; a missing or malformed decision is a denial here.
"""

from __future__ import annotations

from dataclasses import replace

from consumers.agents.agent import Resolution
from consumers.groups.handler import DONE, Effects, Outcome, Source, StartFrom
from consumers.runs.flow import Flow
from consumers.runs.transitions import RunChange
from streams.json_bytes import JsonObject
from streams.records.runs import RequestView


class ToolReactions:
    """Resolves questions and resumes runs."""

    name = "tools"
    types = frozenset({"tool.call.response"})
    start_from = StartFrom.NOW

    def __init__(self, flow: Flow) -> None:
        self._flow = flow

    async def handle(self, source: Source, effects: Effects) -> Outcome:  # noqa: ARG002 - a run's events have its keys
        """Reacts to one answer."""
        store, channel = self._flow.parts.store, source.channel
        request_id = str(source.payload.get("request_id"))
        request = await store.request(channel, request_id)
        run = await store.run(channel, request.run_id) if request else None
        if request is None or run is None or run.is_final:
            return DONE
        writes = await self._flow.run_log(channel, replace(run, cause=source.id))
        writes.correlation = source.correlation
        resolved = resolution(request, source.payload)
        payload: JsonObject = {
            "request_id": request_id,
            "run_id": run.run_id,
            "resolution": resolved,
            "by": source.actor,
            "edited": resolved == "approved" and "edited_args" in source.payload,
        }
        if request.tool_call_id:
            payload["tool_call_id"] = request.tool_call_id
        change = RunChange(increments=("answered",))
        await writes.append_unless_done("tool.call.resolved", payload, f"resolved/{request_id}", change)
        await self._flow.resume(channel, run.run_id)
        return DONE


def resolution(request: RequestView, payload: JsonObject) -> Resolution:
    """The resolution of an answer. An approval needs the word `approve`; everything else is a denial.

    Malformed edited arguments deny, too: a call approved with other arguments must not run with the original ones.
    """
    if request.kind in {"approval", "confirmation"}:
        is_approved = payload.get("decision") == "approve" and isinstance(payload.get("edited_args", {}), dict)
        return "approved" if is_approved else "denied"
    if payload.get("decision") == "deny":
        return "denied"
    return "answered" if "result" in payload or "error" in payload else "denied"
