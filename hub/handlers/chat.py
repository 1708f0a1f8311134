"""`chat.*`: the commands of a conversation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from hub.errors import ErrorDetail, HubError
from hub.handlers.conversations import (
    NOBODY,
    Conversations,
    cancel_active,
    cancel_run,
    require_files,
    require_offered,
    run_results,
)
from hub.ports import ClientConnection, NodePort
from hub.protocol.commands import Append, Command, Outcome
from projections.message import ASSISTANT
from streams.envelope import Appended, Guard
from streams.events.chat import (
    ChatBranch,
    ChatCancel,
    ChatConfigure,
    ChatDelete,
    ChatEdit,
    ChatFeedback,
    ChatMessage,
    ChatReact,
    ChatRegenerate,
    ChatTyping,
)
from streams.json_bytes import to_json
from streams.records.settings import for_agents, settings_guard_name

_STORED = b'"disposition":"stored"'
_Target = ChatDelete | ChatReact | ChatFeedback


class ChatCommands:
    """Commands about messages, settings and answers of a conversation."""

    def __init__(self, node: NodePort) -> None:
        self._node = node
        self._conversations = Conversations(node)

    def message(self, command: Command, connection: ClientConnection | None) -> Any:
        """Stores a user's message. If an agent will answer, the same script opens its run."""
        payload = cast("ChatMessage", command.payload)
        if payload.on_busy is not None:
            require_offered(payload.on_busy)
        followed = self._node.fanouts.get(command.place)
        agent = payload.agent or (None if followed is None else followed.default_agent)
        if agent in {"", NOBODY} and payload.parent_id is None and not payload.parts:
            return Append(command.draft(is_wanted=False), _STORED)
        return self._message(command, payload)

    async def _message(self, command: Command, payload: ChatMessage) -> Outcome:
        if payload.parent_id is not None:
            await self._conversations.message(command.place, payload.parent_id)
        await require_files(self._node.log, command)
        agent = payload.agent or await self._conversations.agent_of(command.place)
        if agent in {"", NOBODY}:
            return Append(command.draft(is_wanted=bool(payload.parts)), _STORED)
        await self._conversations.require_agent(command, agent)
        results = run_results(command.place, disposition="queued")
        return await self._conversations.open_run(command, agent, payload.on_busy, results)

    def typing(self, command: Command, connection: ClientConnection | None) -> Outcome:
        """Sends a typing signal, with `user` added, to everybody who follows the conversation."""
        payload = cast("ChatTyping", command.payload)
        data = {"state": payload.state, "ttl_ms": payload.ttl_ms, "user": command.caller.principal.user}
        return Append(command.draft(data=to_json(data)))

    async def configure(self, command: Command, connection: ClientConnection | None) -> Outcome:
        """Changes the conversation's settings; the reply has the new revision."""
        payload = cast("ChatConfigure", command.payload)
        require_offered(payload.settings.on_busy)
        changed = payload.settings.model_fields_set
        agent = payload.settings.agent
        if agent is not None and agent != NOBODY:
            await self._conversations.require_agent(command, agent)
        expected = payload.expected_revision
        checks = () if expected is None else (("revision", "eq", str(expected) if expected else ""),)
        known = {"agent": "" if agent in {None, NOBODY} else str(agent), "on_busy": payload.settings.on_busy or ""}
        sets = tuple((name, value) for name, value in known.items() if name in changed)
        sets += for_agents(payload.settings.model_dump(exclude_unset=True))
        guard = Guard(settings_guard_name(command.place), checks, sets, ("revision",))

        def configured(appended: Appended) -> Mapping[str, Any]:
            self._conversations.settings_changed(command.place)
            return {"revision": appended.results[0]}

        return Append(command.draft(guards=(guard,)), configured)

    async def regenerate(self, command: Command, connection: ClientConnection | None) -> Outcome:
        """Starts a run for another answer, kept beside the existing one."""
        payload = cast("ChatRegenerate", command.payload)
        message = await self._conversations.message(command.place, payload.message_id)
        if message.role != ASSISTANT:
            raise HubError(
                4021,
                "only an assistant's message can be regenerated",
                details=(ErrorDetail("message_id", "is a user's message"),),
            )
        agent = str(message.actor.get("id", ""))
        await self._conversations.require_agent(command, agent)
        results = run_results(command.place)
        return await self._conversations.open_run(command, agent, None, results, parent=message.parent_id or "")

    async def cancel(self, command: Command, connection: ClientConnection | None) -> Outcome:
        """Stops a run; the active one if the command names none."""
        run_id = cast("ChatCancel", command.payload).run_id
        if run_id is None:
            return await cancel_active(self._node.log, command)
        return await cancel_run(self._node.log, command, run_id)

    async def edit(self, command: Command, connection: ClientConnection | None) -> Outcome:
        """Edits the caller's own message, or anybody's with `manage`. On request the agent answers the new text."""
        payload = cast("ChatEdit", command.payload)
        message = await self._conversations.message(command.place, payload.message_id)
        self._require_own(command, message.actor)
        if payload.expected_revision is not None and payload.expected_revision != message.revision:
            problem = ErrorDetail("expected_revision", f"is {message.revision}")
            raise HubError(
                4021, "the message has been edited since; details give its current revision", details=(problem,)
            )
        await require_files(self._node.log, command)
        agent = await self._conversations.agent_of(command.place) if payload.rerun and message.role != ASSISTANT else ""
        if agent in {"", NOBODY}:
            return Append(command.draft(is_wanted=False))
        await self._conversations.require_agent(command, agent)
        parent = "@id" if payload.mode == "branch" else payload.message_id
        return await self._conversations.open_run(command, agent, None, run_results(command.place), parent=parent)

    async def delete(self, command: Command, connection: ClientConnection | None) -> Outcome:
        """Marks the caller's own message, or anybody's with `manage`, as deleted."""
        message = await self._conversations.message(command.place, cast("ChatDelete", command.payload).message_id)
        self._require_own(command, message.actor)
        return Append(command.draft())

    async def about(self, command: Command, connection: ClientConnection | None) -> Outcome:
        """Stores a reaction or feedback about an existing message."""
        await self._conversations.message(command.place, cast("_Target", command.payload).message_id)
        return Append(command.draft())

    async def branch(self, command: Command, connection: ClientConnection | None) -> Outcome:
        """Makes another branch the active one; like a setting, this raises the conversation's revision."""
        await self._conversations.message(command.place, cast("ChatBranch", command.payload).leaf_id)
        return Append(command.draft(guards=(Guard(settings_guard_name(command.place), increments=("revision",)),)))

    def _require_own(self, command: Command, author: Mapping[str, Any]) -> None:
        principal = command.caller.principal
        is_own = (author.get("kind"), author.get("id")) == ("user", principal.user)
        if not is_own and not principal.grants.allows(command.place.wire, "manage"):
            raise HubError(4003, "only its author, or a user who may manage the channel, can change a message")
