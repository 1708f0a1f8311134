"""A case for every event that a client may send: the required preparation, and a payload that is then accepted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from support.nodes import Node, token
from support.run_rig import POLL_S
from support.socket_client import SocketClient

Json = dict[str, Any]
OWNER = "owner"
BYTES = "AAEC"
"""Three bytes in base64."""


@dataclass(slots=True)
class Stage:
    """A tenant on a running node, and the socket of a user who may do everything in it."""

    node: Node
    tenant: str
    owner: SocketClient
    runs: list[tuple[str, str]] = field(default_factory=list)

    async def answer(self, type_: str, payload: Json, channel: str | None = None) -> Json:
        """Send a command that is accepted; returns the payload of the reply."""
        frame = await self.owner.answer(type_, payload, channel)
        assert frame["type"] != "connection.error", (type_, frame)
        found: Json = frame["payload"]
        return found

    async def said(self, channel: str, **more: Any) -> str:
        """Send a message; returns its ID."""
        return str((await self.answer("chat.message", {"text": "hello", **more}, channel))["id"])

    async def run(self, channel: str, text: str) -> str:
        """Start a run with this text; returns its ID."""
        run_id = str((await self.answer("chat.message", {"text": text, "agent": "a"}, channel))["run_id"])
        self.runs.append((channel, run_id))
        return run_id

    async def talking(self, channel: str) -> str:
        """Start a run that continues until it is stopped; returns its ID."""
        run_id = await self.run(channel, "talk")
        await self.owner.expect("assistant.message.start")
        return run_id

    async def answered(self, channel: str) -> str:
        """Complete a run; returns the ID of its message."""
        run_id = await self.run(channel, "echo")
        await self.owner.expect("agent.complete")
        return f"{run_id}.0"

    async def upload(self, channel: str, size: int = 3, strategy: str = "socket") -> str:
        """Request an upload; returns its ID."""
        wish = {"filename": "a.bin", "size": size, "mime": "application/octet-stream", "strategy": strategy}
        return str((await self.answer("file.upload.request", wish, channel))["upload_id"])

    async def brought(self, channel: str) -> str:
        """Upload a file without completing it; returns the upload's ID."""
        upload_id = await self.upload(channel)
        await self.answer("file.chunk", {"upload_id": upload_id, "offset": 0, "data": BYTES}, channel)
        return upload_id

    async def ready(self, channel: str) -> str:
        """Upload and complete a file; returns its ID."""
        upload_id = await self.brought(channel)
        await self.answer("file.upload.complete", {"upload_id": upload_id}, channel)
        await self.owner.expect("file.ready")
        return upload_id

    async def close(self) -> None:
        """Stop the runs that are still in progress."""
        for channel, run_id in self.runs:
            await self.owner.answer("agent.cancel", {"run_id": run_id, "mode": "force"}, channel)


async def agent(ctx: Any, given: Any) -> Any:
    """An agent that asks a question, talks endlessly, or repeats its input, depending on the input."""
    if given.text == "ask":
        yield str((await ctx.ask("?")).value)
    while given.text == "talk":
        yield "word "
        await asyncio.sleep(POLL_S)
    yield given.text


Prepare = Callable[[Stage, str], Awaitable[Json]]


class Case(NamedTuple):
    """The channel for the event (None if it has none), and a function that prepares the case and returns the payload."""

    channel: str | None
    prepare: Prepare


CASES: dict[str, Case] = {}
"""The cases, by event type."""


def _case(type_: str, channel: str | None = "conversation:c") -> Callable[[Prepare], Prepare]:
    def register(prepare: Prepare) -> Prepare:
        CASES[type_] = Case(channel, prepare)
        return prepare

    return register


def _plain(type_: str, payload: Json, channel: str | None = "conversation:c") -> None:
    """Add a case that needs no preparation."""

    async def prepare(stage: Stage, place: str) -> Json:
        return payload

    CASES[type_] = Case(channel, prepare)


_PATCH = [{"op": "add", "path": "/a", "value": 1}]
_plain("connection.heartbeat", {}, None)
_plain("channel.subscribe", {"channels": ["team:1", {"channel": "agent:a", "rewind": 5, "presence": True}]}, None)
_plain("channel.unsubscribe", {"channels": ["team:1"]}, None)
_plain("channel.presence", {"status": "away"})
_plain("channel.history", {"limit": 5})
_plain(
    "channel.configure",
    {
        "metadata": {"topic": "plans", "old": None},
        "members": {"add": [OWNER], "remove": ["x"]},
        "access": {"write": None},
        "if_revision": 0,
    },
    "team:c",
)
_plain("channel.state", {}, "document:c")
_plain("chat.message", {"text": "echo", "agent": "a", "metadata": {"k": "v"}})
_plain("chat.typing", {"state": "start"})
_plain("chat.configure", {"settings": {"title": "T", "model": None}, "expected_revision": 0})
_plain("file.upload.request", {"filename": "a.bin", "size": 3, "mime": "text/plain"}, "document:c")
_plain("team.activity", {"verb": "closed", "object": {"type": "issue", "id": "7"}, "summary": "Closed 7"}, "team:c")
_plain("team.presence.update", {"status": "busy", "message": "lunch"}, "team:c")
_plain("team.notification", {"kind": "task", "title": "Do it"}, "team:c")
_plain("agent.invoke", {"input": {"any": "thing"}, "run_id": "mine"}, "agent:a")
_plain("agent.list", {}, None)
_plain("document.update", {"base_version": 0, "patch": _PATCH}, "document:c")
_plain("document.cursor", {"selection": [1, 2], "colour": "red"}, "document:c")


@_case("connection.refresh", None)
async def _refresh(stage: Stage, place: str) -> Json:
    return {"token": token(OWNER, stage.tenant)}


@_case("channel.read")
async def _read(stage: Stage, place: str) -> Json:
    return {"up_to": await stage.said(place)}


@_case("chat.regenerate")
async def _regenerate(stage: Stage, place: str) -> Json:
    return {"message_id": await stage.answered(place), "settings": {"model": "other"}}


@_case("chat.cancel")
async def _cancel(stage: Stage, place: str) -> Json:
    return {"run_id": await stage.talking(place)}


@_case("chat.edit")
async def _edit(stage: Stage, place: str) -> Json:
    said = await stage.said(place)
    await stage.answer("chat.configure", {"settings": {"agent": "a"}}, place)
    return {"message_id": said, "text": "echo"}


@_case("chat.delete")
async def _delete(stage: Stage, place: str) -> Json:
    return {"message_id": await stage.said(place), "scope": "subtree"}


@_case("chat.react")
async def _react(stage: Stage, place: str) -> Json:
    return {"message_id": await stage.said(place), "reaction": "+1", "op": "add"}


@_case("chat.feedback")
async def _feedback(stage: Stage, place: str) -> Json:
    return {"message_id": await stage.answered(place), "rating": "up"}


@_case("chat.branch")
async def _branch(stage: Stage, place: str) -> Json:
    return {"leaf_id": await stage.said(place)}


@_case("tool.call.response")
async def _response(stage: Stage, place: str) -> Json:
    await stage.run(place, "ask")
    request = await stage.owner.expect("tool.call.request")
    return {"request_id": request["payload"]["request_id"], "result": {"n": 1}}


@_case("file.upload.sign")
async def _sign(stage: Stage, place: str) -> Json:
    return {"upload_id": await stage.upload(place, 9 * 2**20, "multipart"), "parts": [{"n": 2}]}


@_case("file.chunk")
async def _chunk(stage: Stage, place: str) -> Json:
    return {"upload_id": await stage.upload(place), "offset": 0, "data": BYTES}


@_case("file.upload.progress")
async def _progress(stage: Stage, place: str) -> Json:
    return {"upload_id": await stage.upload(place, 9 * 2**20, "multipart"), "sent": 5}


@_case("file.upload.complete")
async def _complete(stage: Stage, place: str) -> Json:
    return {"upload_id": await stage.brought(place)}


@_case("file.upload.status")
async def _status(stage: Stage, place: str) -> Json:
    return {"upload_id": await stage.upload(place)}


@_case("file.upload.cancel")
async def _give_up(stage: Stage, place: str) -> Json:
    return {"upload_id": await stage.upload(place), "reason": "changed my mind"}


@_case("file.url")
async def _url(stage: Stage, place: str) -> Json:
    return {"file_id": await stage.ready(place), "disposition": "inline"}


@_case("team.notification.read", f"user:{OWNER}")
async def _notices(stage: Stage, place: str) -> Json:
    notice = await stage.answer("team.notification", {"kind": "task", "title": "Do it"}, place)
    return {"ids": [notice["id"]]}


@_case("agent.cancel")
async def _stop(stage: Stage, place: str) -> Json:
    return {"run_id": await stage.talking(place), "mode": "force"}


@_case("agent.steer")
async def _steer(stage: Stage, place: str) -> Json:
    return {"run_id": await stage.talking(place), "text": "louder"}
