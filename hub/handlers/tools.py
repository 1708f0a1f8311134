"""`tool.call.response`: a person's answer to an agent's question. The first valid answer wins."""

from __future__ import annotations

from typing import cast

from hub.errors import ErrorDetail, HubError
from hub.ports import ClientConnection, NodePort
from hub.protocol.commands import Append, Command, Outcome
from streams.errors import GuardRefused
from streams.events.tools import ToolCallResponse
from streams.records.run_store import RunStore
from streams.records.runs import RequestView, answering


class ToolCommands:
    """Commands that answer questions of agents."""

    def __init__(self, node: NodePort) -> None:
        self._node = node

    async def response(self, command: Command, connection: ClientConnection | None) -> Outcome:
        """Answers a question. The stored question is what counts, never the client's description of it."""
        payload, place = cast("ToolCallResponse", command.payload), command.place
        request = await RunStore(self._node.log).request(place, payload.request_id)
        if request is None:
            raise HubError(4018, "there is no such question in this channel")
        self._check(command, payload, request)
        guard = answering(place, payload.request_id, command.caller.principal.user)
        return Append(command.draft(guards=(guard,)), None, _too_late)

    def _check(self, command: Command, payload: ToolCallResponse, request: RequestView) -> None:
        if request.assignees and command.caller.principal.user not in request.assignees:
            raise HubError(4003, "this question was addressed to other people")
        if request.state == "open" and request.expires_ms and self._node.clock.now() * 1000 >= request.expires_ms:
            raise HubError(4022, "the question is past its deadline")
        if "edited_args" in payload.model_fields_set and not request.may_edit:
            raise HubError(
                4005, "these arguments may not be edited", details=(ErrorDetail("edited_args", "are not allowed"),)
            )
        if "edited_args" in payload.model_fields_set and not isinstance(payload.edited_args, dict):
            problem = ErrorDetail("edited_args", "must be an object")
            raise HubError(4005, "edited arguments replace all of them: send an object", details=(problem,))


def _too_late(error: GuardRefused) -> HubError:
    if error.present is None:
        return HubError(4018, "there is no such question in this channel")
    if error.present == "expired":
        return HubError(4022, "the question is past its deadline")
    return HubError(4021, "the question is closed", details=(ErrorDetail("state", f"is {error.present}"),))
