"""What the edge must know of a conversation before it stores a command: settings, messages, runs.

Everything here is a courtesy to the client; what must hold exactly is compared again in the append script.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hub.errors import HubError
from hub.protocol.commands import Command
from projections.channel_state import ChannelState
from projections.conversation import CONVERSATION
from projections.message import Message
from streams.channel import Channel, Kind
from streams.records.runs import Invitation, OnBusy
from streams.records.settings import settings_guard_name

if TYPE_CHECKING:
    from hub.node.hub import Hub

NOBODY: Final = "none"
"""The name that stands for "no agent answers"."""
_LATER: Final = frozenset({"interrupt", "steer"})


class Conversations:
    """Looks conversations up for the handlers of one node."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def agent_of(self, channel: Channel) -> str:
        """The agent the settings name; "" when nobody answers by default."""
        fanout = self._hub.fanouts.get(channel)
        if fanout is not None and fanout.default_agent is not None:
            return fanout.default_agent
        log, seen = self._hub.log, fanout.configured_count if fanout is not None else 0
        raw = await log.replay.command(b"HGET", log.keys.guard(channel, settings_guard_name(channel)), b"agent")
        agent = (raw or b"").decode()
        if (
            fanout is not None and fanout.configured_count == seen
        ):  # else it was read before a change that is known here
            fanout.default_agent = agent
        return agent

    def known_agent(self, channel: Channel) -> str | None:
        """As `agent_of` where no look-up is needed, else None."""
        fanout = self._hub.fanouts.get(channel)
        return None if fanout is None else fanout.default_agent

    def settings_changed(self, channel: Channel) -> None:
        """A change of the settings was stored here: whoever is told so must not meet the agent of before."""
        fanout = self._hub.fanouts.get(channel)
        if fanout is not None:
            fanout.default_agent = None
            fanout.configured_count += 1

    async def state(self, channel: Channel) -> ChannelState:
        """The channel's fold at its head. For reading, before the next await."""
        return await self._hub.states.fold(channel, await self._hub.log.look(channel))

    async def message(self, channel: Channel, message_id: str) -> Message:
        """A message that is there and was not deleted.

        Raises:
            HubError: 4018.
        """
        found = (await self.state(channel)).of(CONVERSATION).message(message_id)
        if found is None or found.is_deleted:
            raise HubError(4018, "there is no such message in this conversation")
        return found

    async def require_agent(self, command: Command, name: str) -> None:
        """The caller may invoke here, and somebody serves the agent.

        Raises:
            HubError: 4003, 4007.
        """
        if not command.caller.principal.grants.allows(command.place.wire, "invoke"):
            raise HubError(4003, "your token does not allow invoke in this channel")
        if not await self._hub.services.agents.is_available(name):
            raise HubError(4007, "nobody serves this agent now; agent.list says who is there", retry_after_ms=1_000)

    async def invitation(
        self, command: Command, agent: str, on_busy: OnBusy | None, **more: str | int | None
    ) -> Invitation:
        """The run a command asks for. Where it does not say what to do when the channel is busy, the settings do.

        Raises:
            HubError: 4024, a way to handle a busy channel that this hub does not offer.
        """
        if on_busy in _LATER:
            raise HubError(4024, "on_busy may be enqueue or reject here")
        now_ms = int(self._hub.services.now() * 1000)
        busy = on_busy or await self._busy_setting(command.place)
        return Invitation(agent, command.caller.principal.user, now_ms, busy, **more)  # type: ignore[arg-type]  # named by the caller

    async def _busy_setting(self, channel: Channel) -> OnBusy:
        """What the conversation's settings say; a way that is not offered yet waits, as without a setting."""
        if channel.kind is not Kind.CONVERSATION:
            return "enqueue"
        log = self._hub.log
        raw = await log.replay.command(b"HGET", log.keys.guard(channel, settings_guard_name(channel)), b"on_busy")
        return "reject" if raw == b"reject" else "enqueue"
