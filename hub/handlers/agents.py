"""`agent.*`: invites agents, and stops or steers their runs."""

from __future__ import annotations

from typing import cast

from hub.errors import ErrorDetail, HubError
from hub.handlers.conversations import (
    NOBODY,
    Conversations,
    cancel_run,
    no_such_run,
    require_files,
    require_offered,
    run_results,
)
from hub.ports import ClientConnection, NodePort
from hub.protocol.commands import Append, Command, Outcome, Reply
from streams.channel import Channel, Kind
from streams.events.agents import AgentCancel, AgentInvoke, AgentSteer
from streams.json_bytes import to_json
from streams.records.runs import steering


class AgentCommands:
    """Commands about runs of agents."""

    def __init__(self, node: NodePort) -> None:
        self._node = node
        self._conversations = Conversations(node)

    async def invoke(self, command: Command, connection: ClientConnection | None) -> Outcome:
        """Starts a run in this channel."""
        payload, place = cast("AgentInvoke", command.payload), command.place
        require_offered(payload.on_busy)
        agent = agent_for(place, payload.agent)
        await self._conversations.require_agent(command, agent)
        await require_files(self._node.log, command)
        results = run_results(place, payload.run_id, channel=place.wire)
        asked = {"run_id": payload.run_id, "deadline_ms": payload.deadline_ms}
        return await self._conversations.open_run(command, agent, payload.on_busy, results, parent="", **asked)

    async def cancel(self, command: Command, connection: ClientConnection | None) -> Outcome:
        """Stops a run, gracefully or by force."""
        payload = cast("AgentCancel", command.payload)
        return await cancel_run(self._node.log, command, payload.run_id, payload.mode)

    async def steer(self, command: Command, connection: ClientConnection | None) -> Outcome:
        """Sends an instruction to a run in progress."""
        payload = cast("AgentSteer", command.payload)
        await require_files(self._node.log, command)
        guard = steering(command.place, payload.run_id)
        return Append(command.draft(guards=(guard,)), {"disposition": "steering"}, no_such_run)

    async def list(self, command: Command, connection: ClientConnection | None) -> Outcome:
        """Lists the agents that the caller may invoke."""
        grants = command.caller.principal.grants
        cards = await self._node.agents.cards()
        allowed = [
            c.to_json()
            for c in cards
            if grants.allows(f"agent:{c.name}", "invoke") or grants.covers("conversation:*", "invoke")
        ]
        return Reply("agent.list", to_json({"agents": allowed}))


def agent_for(place: Channel, named: str | None) -> str:
    """Returns the agent that the channel belongs to or, in a conversation, the agent that the command names.

    Raises:
        HubError: 4005: no agent is named where one must be, or another agent than the channel's.
    """
    if place.kind is Kind.AGENT:
        own = place.name.partition(".")[0]
        if named not in {None, own}:
            raise HubError(
                4005,
                "this channel belongs to another agent",
                details=(ErrorDetail("agent", "is not this channel's agent"),),
            )
        return own
    if named in {None, NOBODY}:
        raise HubError(4005, "name the agent to invoke", details=(ErrorDetail("agent", "is required"),))
    return str(named)
