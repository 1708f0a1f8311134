"""Look-ups of a conversation before a command is stored: settings, messages, runs.

Everything here is a courtesy to the client; everything that must hold exactly is compared again in the append script.
"""

from __future__ import annotations

from typing import Final

from hub.errors import HubError
from hub.ports import NodePort
from hub.protocol.commands import Command
from projections.channel_state import ChannelState
from projections.conversation import CONVERSATION
from projections.message import Message
from streams.channel import Channel, Kind
from streams.records.runs import Invitation, OnBusy
from streams.records.settings import SettingsRecords

NOBODY: Final = "none"
"""The name that stands for "no agent answers"."""
_LATER: Final = frozenset({"interrupt", "steer"})


def require_offered(on_busy: OnBusy | None) -> None:
    """The way to handle a busy channel is one that this hub offers, in a command or as a setting.

    Raises:
        HubError: 4024.
    """
    if on_busy in _LATER:
        raise HubError(4024, "on_busy may be enqueue or reject here")


class Conversations:
    """Looks conversations up for the handlers of one node."""

    def __init__(self, node: NodePort) -> None:
        self._node = node

    async def agent_of(self, channel: Channel) -> str:
        """The agent the settings name; "" when nobody answers by default."""
        followed = self._node.fanouts.get(channel)
        if followed is not None and followed.default_agent is not None:
            return followed.default_agent
        seen = followed.settings_count if followed is not None else 0
        agent = await SettingsRecords(self._node.log).agent(channel)
        if followed is not None:
            followed.remember_agent(agent, seen)
        return agent

    def settings_changed(self, channel: Channel) -> None:
        """A change of the settings was stored here: a client that is told so must not meet the agent of before."""
        followed = self._node.fanouts.get(channel)
        if followed is not None:
            followed.settings_changed()

    async def state(self, channel: Channel) -> ChannelState:
        """The channel's fold at its head. For reading, before the next await."""
        return await self._node.states.fold(channel, await self._node.log.look(channel))

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
        await self._node.access.require(command.place, command.caller.principal, "invoke")
        if not await self._node.agents.is_available(name):
            raise HubError(
                4007, "no worker serves this agent now; agent.list names those that are served", retry_after_ms=1_000
            )

    async def invitation(
        self, command: Command, agent: str, on_busy: OnBusy | None, **more: str | int | None
    ) -> Invitation:
        """The run a command asks for. Where the command is silent about a busy channel, the settings decide.

        Raises:
            HubError: 4024, a way to handle a busy channel that this hub does not offer.
        """
        require_offered(on_busy)
        now_ms = self._node.log.now_ms()
        busy = on_busy or await self._busy_setting(command.place)
        return Invitation(agent, command.caller.principal.user, now_ms, busy, **more)  # type: ignore[arg-type]  # named by the caller

    async def _busy_setting(self, channel: Channel) -> OnBusy:
        """The conversation's setting; a way that is not offered yet waits, as without a setting."""
        if channel.kind is not Kind.CONVERSATION:
            return "enqueue"
        on_busy = await SettingsRecords(self._node.log).on_busy(channel)
        return "reject" if on_busy == "reject" else "enqueue"
