"""Reactions to chat.*, agent.* and tool.call.response: runs begin, are steered or stopped, and continue after the last answer.

The hub has decided whether an agent answers: if so, the script that stored the command also wrote the run's hash, and these
handlers only begin the run. Likewise the hub accepted only the first answer to each question.
"""

from __future__ import annotations

from dataclasses import replace

from consumers.agents.agent import Resolution
from consumers.groups.handler import DONE, Effects, Outcome, Source, StartFrom
from consumers.runs.flow import Flow
from consumers.runs.transitions import RunChange
from streams.json_bytes import JsonObject
from streams.records.runs import RequestView, run_id_of


class ChatReactions:
    """Begins, steers and cancels the runs requested by a conversation's events."""

    name = "chat"
    types = frozenset({"chat.message", "chat.regenerate", "chat.edit", "chat.cancel"})
    start_from = StartFrom.NOW

    def __init__(self, flow: Flow) -> None:
        self._flow = flow

    async def handle(self, source: Source, effects: Effects) -> Outcome:
        """Reacts to one event."""
        store, channel = self._flow.parts.store, source.channel
        if source.event.type == "chat.cancel":
            await self._cancel(source)
            return DONE
        run = await store.run(channel, run_id_of(channel, source.id))
        if run is not None and not run.is_final:
            await self._flow.begin(channel, run)
        elif source.payload.get("on_busy") == "steer":
            await self._steer(source, effects)
        return DONE

    async def _cancel(self, source: Source) -> None:
        """Cancel the run that the hub recorded for this command; the active run may by now be the next one, which continues."""
        store, channel, named = self._flow.parts.store, source.channel, source.payload.get("run_id")
        run_id = named if isinstance(named, str) else (await store.home(channel)).active
        run = await store.run(channel, run_id) if run_id else None
        if run is not None and (run.cancel or run.is_final):
            await self._flow.cancel(channel, run_id)

    async def _steer(self, source: Source, effects: Effects) -> None:
        store, channel = self._flow.parts.store, source.channel
        active = (await store.home(channel)).active
        run = await store.run(channel, active) if active else None
        if run is not None and run.state == "running":
            await store.add_steer(channel, active, source.id)
            await store.hint(channel, active)
            return
        payload = {
            "message_id": source.id,
            "status": "rejected",
            "run_id": active or "none",
            "reason": "no run is active",
        }
        await effects.append(channel, "message.status", dict(payload))


class AgentReactions:
    """Begins, cancels and steers runs started by `agent.invoke`."""

    name = "agents"
    types = frozenset({"agent.invoke", "agent.cancel", "agent.steer"})
    start_from = StartFrom.NOW

    def __init__(self, flow: Flow) -> None:
        self._flow = flow

    async def handle(self, source: Source, effects: Effects) -> Outcome:
        """Reacts to one event."""
        named, channel = source.payload.get("run_id"), source.channel
        run_id = named if isinstance(named, str) else run_id_of(channel, source.id)
        if source.event.type == "agent.cancel":
            await self._flow.cancel(channel, run_id)
        elif source.event.type == "agent.steer":
            await self._steer(source, effects, run_id)
        else:
            run = await self._flow.parts.store.run(channel, run_id)
            if run is not None and not run.is_final and run.cause == source.id:
                await self._flow.begin(channel, run)
        return DONE

    async def _steer(self, source: Source, effects: Effects, run_id: str) -> None:
        store, channel = self._flow.parts.store, source.channel
        run = await store.run(channel, run_id)
        payload: JsonObject = {"message_id": source.id, "run_id": run_id}
        if run is None or run.is_final:
            await effects.append(
                channel, "message.status", payload | {"status": "rejected", "reason": "the run is over"}
            )
            return
        await store.add_steer(channel, run_id, source.id)
        await store.hint(channel, run_id)
        if run.state != "running":
            await effects.append(channel, "message.status", payload | {"status": "deferred"})


class ToolReactions:
    """Closes each answered question for all its assignees, and resumes the run after the last answer."""

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
        writes = replace(
            await self._flow.run_log(channel, replace(run, cause=source.id)), correlation=source.correlation
        )
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
    """The resolution for an answer. An approval requires the decision `approve`; anything else is a denial.

    Malformed edited arguments are a denial, too: a call that was approved with other arguments must not run with the original
    ones.
    """
    if request.kind in {"approval", "confirmation"}:
        is_approved = payload.get("decision") == "approve" and isinstance(payload.get("edited_args", {}), dict)
        return "approved" if is_approved else "denied"
    if payload.get("decision") == "deny":
        return "denied"
    return "answered" if "result" in payload or "error" in payload else "denied"
