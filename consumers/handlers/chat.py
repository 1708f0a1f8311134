"""Reactions to chat.message, chat.regenerate, chat.edit and chat.cancel: runs begin, are steered or stopped.

The hub has decided whether an agent answers: then the run's hash exists, written by the script that stored the command. This
handler only begins the run.
"""

from __future__ import annotations

from consumers.groups.handler import DONE, Effects, Outcome, Source, StartFrom
from consumers.runs.flow import Flow
from streams.records.runs import run_id_of


class ChatReactions:
    """Begins, steers and cancels the runs that a conversation's events ask for."""

    name = "chat"
    types = frozenset({"chat.message", "chat.regenerate", "chat.edit", "chat.cancel"})
    start_from = StartFrom.NOW

    def __init__(self, flow: Flow) -> None:
        self._flow = flow

    async def handle(self, source: Source, effects: Effects) -> Outcome:
        """Reacts to one event; see the module."""
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
        """Cancels the run that was meant, which the hub has marked. The active run may by now be the next one, which continues."""
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
        payload = {"message_id": source.id, "status": "rejected", "run_id": active or "none", "reason": "nothing runs"}
        await effects.append(channel, "message.status", dict(payload))
