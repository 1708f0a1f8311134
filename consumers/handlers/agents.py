"""Reactions to agent.invoke, agent.cancel and agent.steer."""

from __future__ import annotations

from consumers.groups.handler import DONE, Effects, Outcome, Source, StartFrom
from consumers.runs.flow import Flow
from streams.json_bytes import JsonObject
from streams.records.runs import run_id_of


class AgentReactions:
    """Begins, cancels and steers invoked runs."""

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
