"""Shared by several families of handlers: look-ups in a conversation before a command is stored, and its runs.

A look-up only gives the client an early answer; conditions that must hold exactly are checked again by the append
script.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal

from hub.errors import ErrorDetail, HubError
from hub.ports import NodePort
from hub.protocol.commands import Append, Command
from projections.channel_state import ChannelState
from projections.conversation import CONVERSATION
from projections.message import Message
from streams.channel import Channel, Kind
from streams.envelope import Appended, Guard
from streams.errors import GuardRefused, LogUnavailable, StreamsError
from streams.events.references import Reference, references
from streams.records.references import problems_of
from streams.records.run_slots import RunSlots, SlotAnswer
from streams.records.run_store import RunStore
from streams.records.runs import (
    Invitation,
    OnBusy,
    cancel_unbegun,
    cancelling,
    is_unbegun,
    meaning,
    opening,
    run_id_of,
)
from streams.records.settings import SettingsRecords
from streams.redis.log import Log

NOBODY: Final = "none"
"""The agent name that means "no agent answers"."""
FULL_RETRY_MS: Final = 5_000
"""Advised wait in milliseconds after reaching the limit of runs: about the duration of a short answer."""
_LATER: Final = frozenset({"interrupt", "steer"})


def require_offered(on_busy: OnBusy | None) -> None:
    """Requires that this hub supports the given way of handling a busy channel, in a command or as a setting.

    Raises:
        HubError: 4024.
    """
    if on_busy in _LATER:
        raise HubError(4024, "on_busy must be enqueue or reject on this hub")


class Conversations:
    """Reads conversations for the handlers of one node."""

    def __init__(self, node: NodePort) -> None:
        self._node = node
        self._slots = RunSlots(node.log)

    async def agent_of(self, channel: Channel) -> str:
        """Returns the agent that answers by default; "" if none does."""
        followed = self._node.fanouts.get(channel)
        if followed is not None and followed.default_agent is not None:
            return followed.default_agent
        seen = followed.settings_count if followed is not None else 0
        agent = await SettingsRecords(self._node.log).agent(channel)
        if followed is not None:
            followed.remember_agent(agent, seen)
        return agent

    def settings_changed(self, channel: Channel) -> None:
        """Drops the cached agent after a change of the settings, so that the former agent does not answer the next message."""
        followed = self._node.fanouts.get(channel)
        if followed is not None:
            followed.settings_changed()

    async def state(self, channel: Channel) -> ChannelState:
        """Returns the channel's folded state at its head. Valid only until the next `await`."""
        return await self._node.states.fold(channel, await self._node.log.look(channel))

    async def message(self, channel: Channel, message_id: str) -> Message:
        """Returns a message that exists and was not deleted.

        Raises:
            HubError: 4018.
        """
        found = (await self.state(channel)).of(CONVERSATION).message(message_id)
        if found is None or found.is_deleted:
            raise HubError(4018, "there is no such message in this conversation")
        return found

    async def unknown_messages(self, channel: Channel, named: Sequence[Reference]) -> list[tuple[str, str]]:
        """Returns field and problem of each named message that does not exist or was deleted."""
        asked = [reference for reference in named if reference.kind == "message"]
        if not asked or channel.kind is not Kind.CONVERSATION:
            return []
        conversation = (await self.state(channel)).of(CONVERSATION)
        found = ((one.field, conversation.message(one.id)) for one in asked)
        return [(field, "is not a message of this conversation") for field, m in found if m is None or m.is_deleted]

    async def require_agent(self, command: Command, name: str) -> None:
        """Requires that the caller may invoke agents here, and that a worker serves this one.

        Raises:
            HubError: 4003, 4007.
        """
        if not command.caller.principal.grants.allows(command.place.wire, "invoke"):
            raise HubError(4003, "your token does not grant `invoke` on this channel")
        await self._node.access.require(command.place, command.caller.principal, "invoke")
        if not await self._node.agents.is_available(name):
            raise HubError(
                4007, "no worker is serving this agent; agent.list shows the available ones", retry_after_ms=1_000
            )

    async def open_run(
        self,
        command: Command,
        agent: str,
        on_busy: OnBusy | None,
        results: Callable[[Appended], Mapping[str, str]],
        **more: str | int | None,
    ) -> Append:
        """Builds the append of a command together with the run it opens.

        If the command does not say what to do in a busy channel, the conversation's settings decide.

        Raises:
            HubError: 4004: too many unfinished runs.
        """
        place, user, now_ms = command.place, command.caller.principal.user, self._node.log.now_ms()
        busy = on_busy or await self._busy_setting(place)
        slot = await self._take_slot(command)
        invitation = Invitation(agent, user, now_ms, busy, slot=slot, **more)  # type: ignore[arg-type]  # named by the caller

        def refused(error: GuardRefused) -> HubError:
            if slot:
                self._node.spawn(self._give_back(place, user, slot))
            return run_refused(error)

        return Append(command.draft(guards=opening(place, invitation)), results, refused)

    async def _take_slot(self, command: Command) -> str:
        """Takes one of the user's and the tenant's slots for unfinished runs; a repeated command gets the same slot again.

        Raises:
            HubError: 4004: the user or the tenant has reached its limit.
        """
        settings, slot = self._node.settings, command.id or secrets.token_hex(8)
        if not (settings.runs_per_user or settings.runs_per_tenant):
            return ""
        user, bounds = command.caller.principal.user, (settings.runs_per_user, settings.runs_per_tenant)
        answer = await self._slots.take(command.place, user, slot, *bounds)
        if answer is SlotAnswer.TAKEN:
            return slot
        whose, count = (
            ("you have", settings.runs_per_user)
            if answer is SlotAnswer.USER_IS_FULL
            else ("your organisation has", settings.runs_per_tenant)
        )
        text = f"{whose} {count} runs in progress, which is the limit; wait for one to end, or cancel one"
        raise HubError(4004, text, retry_after_ms=FULL_RETRY_MS)

    async def _give_back(self, channel: Channel, user: str, slot: str) -> None:
        with contextlib.suppress(LogUnavailable):  # the slot expires by itself
            await self._slots.give_back(channel, user, slot)

    async def _busy_setting(self, channel: Channel) -> OnBusy:
        """Returns the conversation's `on_busy`; a value that this hub does not support counts as the default, `enqueue`."""
        if channel.kind is not Kind.CONVERSATION:
            return "enqueue"
        on_busy = await SettingsRecords(self._node.log).on_busy(channel)
        return "reject" if on_busy == "reject" else "enqueue"


async def require_files(log: Log, command: Command) -> None:
    """Requires every file that the payload names to be a ready file of the command's channel.

    Raises:
        HubError: 4018, with the field at fault.
    """
    named = [one for one in references(command.event, command.payload) if one.kind == "file"]
    if named and (problems := await problems_of(log, command.place, named)):
        details = (ErrorDetail(*problems[0]),)
        raise HubError(4018, "a file that the command names is not ready in this channel", details=details)


# Runs


def run_results(home: Channel, run_id: str | None = None, **more: str) -> Callable[[Appended], Mapping[str, str]]:
    """Returns the function that makes the reply's results: the `run_id`, derived from the event unless given, and `more`."""
    return lambda appended: {**more, "run_id": run_id or run_id_of(home, appended.id)}


async def cancel_active(log: Log, command: Command) -> Append:
    """Asks the active run to stop. If the same command is sent again, it names the run it stopped the first time.

    Raises:
        HubError: 4018: no run is active.
    """
    place = command.place
    runs, user = RunStore(log), command.caller.principal.user
    meant = await runs.meant(place, user, command.id) if command.id is not None else ""
    run_id = meant or await runs.active(place)
    if not run_id:
        raise HubError(4018, "no run is active in this channel")
    remembered = (meaning(place, user, command.id, run_id),) if command.id is not None else ()
    return await cancel_run(log, command, run_id, more=remembered)


async def cancel_run(
    log: Log,
    command: Command,
    run_id: str,
    mode: Literal["graceful", "force"] = "graceful",
    more: tuple[Guard, ...] = (),
) -> Append:
    """Asks a run to stop. Its worker ends it with `agent.complete`; a run that no worker has begun is ended here."""
    place = command.place
    run = await RunStore(log).run(place, run_id)
    if run is not None and not is_unbegun(run):
        run = None
    traceparent = None if run is None else await log.traceparent_of(place, run.cause)

    def accepted(_appended: Appended) -> Mapping[str, str]:
        if run is not None:
            for draft in cancel_unbegun(place, run, run.cause, traceparent):
                log.submit(draft, _left_to_workers)
        return {"run_id": run_id, "state": "cancelling"}

    return Append(command.draft(guards=(cancelling(place, run_id, mode), *more)), accepted, no_such_run)


def _left_to_workers(result: Appended | StreamsError) -> None:
    """Does nothing: if ending the run here fails, a worker or the reaper ends it."""


def no_such_run(error: GuardRefused) -> HubError:
    """Builds the error for a run that does not exist or has ended."""
    if error.present is None:
        return HubError(4018, "there is no such run in this channel")
    return HubError(
        4021,
        "the run is in a state that does not accept this command; details give the state",
        details=(ErrorDetail("state", f"is {error.present}"),),
    )


def run_refused(error: Exception) -> HubError:
    """Builds the error for a refused run: the channel is busy, or the run id is taken."""
    field = getattr(error, "field", "state")
    if field == "open":
        return HubError(
            4021,
            "a run is active in this channel, and on_busy is reject",
            details=(ErrorDetail("on_busy", "is reject, and the channel is busy"),),
        )
    return HubError(
        4021,
        "this run_id is in use; choose another one",
        details=(ErrorDetail("run_id", f"is {getattr(error, 'present', 'in use')}"),),
    )
