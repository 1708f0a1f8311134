"""Things that people of a run do: they talk, change, ask, look, upload, and lose their tokens."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
from collections.abc import Callable, Coroutine
from typing import Any, Final

from ops.torture import http_client
from ops.torture.connection import ANSWER_S, Json, SocketLost
from ops.torture.people import ASK, CREW, FILES, HTTP_ERRORS, NOTES, TALK, TRIES_MAX, Participant


async def talk(person: Participant) -> None:
    """Say something in the busy room."""
    receipt = await person.store("chat.message", TALK, {"text": person.text()})
    if receipt is not None:
        person.remember(TALK, receipt)


async def change(person: Participant) -> None:
    """Edit, react to or delete an own message."""
    if not person.own_messages:
        return
    message, dice = person.chance.choice(person.own_messages), person.chance.random()
    if dice < 0.4:  # noqa: PLR2004
        edit = {"message_id": message, "text": person.text(20), "mode": person.chance.choice(("replace", "branch"))}
        await person.store("chat.edit", TALK, {**edit, "rerun": False})
    elif dice < 0.9:  # noqa: PLR2004
        reaction = {
            "message_id": message,
            "reaction": person.chance.choice("👍🎉❤"),
            "op": person.chance.choice(("add", "remove")),
        }
        await person.store("chat.react", TALK, reaction)
    else:
        person.own_messages.remove(message)
        await person.store("chat.delete", TALK, {"message_id": message, "scope": "self"})


async def configure(person: Participant) -> None:
    """Give the room another title."""
    await person.store("chat.configure", TALK, {"settings": {"title": person.text(4)}})


async def act(person: Participant) -> None:
    """Something in the team."""
    thing = {"type": "ticket", "id": str(person.numbers), "title": person.text(2)}
    await person.store("team.activity", CREW, {"verb": "opened", "object": thing, "summary": person.text(10)})


async def note(person: Participant) -> None:
    """A patch to the shared document; one that comes late is refused."""
    patch = [{"op": "add", "path": f"/{person.user}-{person.chance.randrange(20)}", "value": person.text(2)}]
    base = person.version
    receipt = await person.store("document.update", NOTES, {"base_version": base, "patch": patch})
    if receipt is not None and "version" in receipt:
        person.stand_at(receipt["version"])
        return
    found = await person.get("read.state", f"/v1/channels/{NOTES}/state", NOTES, {})
    if found.kind == "ok":
        person.stand_at(found.payload["state"].get("version", 0))


async def notify(person: Participant) -> None:
    """Something for somebody's inbox."""
    to = person.chance.choice(("ann", "ben", "cem"))
    payload = {"kind": "torture", "title": person.text(2)}
    command_id = person.new_id()
    for _ in range(TRIES_MAX):
        outcome = await person.post("team.notification", f"user:{to}", payload, command_id, f"/v1/users/{to}/events")
        if outcome.kind != "unknown":
            return
        await asyncio.sleep(person.chance.uniform(0.1, 0.5))


async def clear_inbox(person: Participant) -> None:
    """Read the own inbox up to where it is known."""
    held = person.cursors.get(f"user:{person.user}")
    if held is not None and held.seq:
        await person.store("team.notification.read", f"user:{person.user}", {"up_to": held.id})


async def mark(person: Participant) -> None:
    """Say how far one has read."""
    held = person.cursors.get(TALK)
    if held is not None and held.seq:
        connection = await person.connected()
        await connection.command("channel.read", {"up_to": held.id}, TALK, person.new_id())


async def typing(person: Participant) -> None:
    """Say that one types; nobody answers that."""
    with contextlib.suppress(SocketLost):
        await (await person.connected()).say("chat.typing", {"state": "start", "ttl_ms": 2_000}, TALK)


async def ask(person: Participant) -> None:
    """Ask the agent, where there is one."""
    if person.setting.agent:
        text = person.text(4) + person.chance.choice(("", "pay"))
        await person.store("chat.message", person.chance.choice(ASK), {"text": text, "agent": person.setting.agent})


async def look(person: Participant) -> None:
    """A state: by socket, by HTTP, or as of an earlier event."""
    channel = person.chance.choice((TALK, ASK[0], CREW, NOTES, f"user:{person.user}", FILES))
    dice = person.chance.random()
    held = person.seen_ids.get(channel)
    if dice < 0.4:  # noqa: PLR2004
        await (await person.connected()).read("read.state", "channel.state", {}, channel)
    elif dice < 0.7 or not held:  # noqa: PLR2004
        await person.get("read.state", f"/v1/channels/{channel}/state", channel, {})
    else:
        at = person.chance.choice(held)[0]
        await person.get("read.state", f"/v1/channels/{channel}/state?at={at}", channel, {"at": at})


async def page(person: Participant) -> None:
    """A page of the past."""
    channel = person.chance.choice((TALK, CREW))
    held = person.seen_ids.get(channel) or []
    after, seq = person.chance.choice(held) if held and person.chance.random() < 0.8 else ("0", 0)  # noqa: PLR2004
    asked: Json = {"after": after, "limit": 50}
    if person.chance.random() < 0.5:  # noqa: PLR2004
        await (await person.connected()).read("read.page", "channel.history", {**asked, "after_seq": seq}, channel)
    else:
        path = f"/v1/channels/{channel}/events?after={after}&limit=50"
        await person.get("read.page", path, channel, {**asked, "after_seq": seq})


async def refresh(person: Participant) -> None:
    """A new token on a living connection; the old one stays good, too."""
    connection = await person.connected()
    with contextlib.suppress(SocketLost, TimeoutError):
        async with asyncio.timeout(ANSWER_S):
            await connection.ask("connection.refresh", {"token": person.token})


async def upload(person: Participant) -> None:
    """A file, by signed URL or over the socket; now and then its bytes are not those that were announced."""
    size = person.chance.choice((0, 10, 5_000, 300_000))
    data = (person.setting.mark.encode() + person.chance.randbytes(64) * (size // 64 + 1))[: max(size, 12)]
    is_corrupt = person.chance.random() < 0.2  # noqa: PLR2004
    strategy = person.chance.choice(("single", "socket"))
    digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
    asked = {
        "filename": f"{person.setting.mark}{person.numbers}.bin",
        "size": len(data),
        "mime": "application/octet-stream",
        "strategy": strategy,
        "sha256": digest,
    }
    request_id = person.new_id()
    authorized = await person.store("file.upload.request", FILES, asked, request_id)
    if authorized is None:
        return
    sent = bytes([data[0] ^ 1]) + data[1:] if is_corrupt else data
    await _bring(person, authorized, sent, digest, is_corrupt=is_corrupt)


async def _bring(person: Participant, authorized: Json, data: bytes, digest: str, *, is_corrupt: bool) -> None:
    upload = authorized["upload_id"]
    payload = {"file_id": upload, "sha256": digest, "is_corrupt": is_corrupt}
    op = person.begin("file.put", FILES, payload)
    for _ in range(TRIES_MAX):
        try:
            is_there = await _carry(person, authorized, data)
        except (SocketLost, *HTTP_ERRORS):
            is_there = False
        if is_there or is_corrupt:
            break
        await asyncio.sleep(person.chance.uniform(0.2, 0.8))
    receipt = await person.store("file.upload.complete", FILES, {"upload_id": upload})
    if receipt is None:
        person.recorder.write("fail", op=op, code=0)
        return
    person.recorder.write("ok", op=op, reply={"type": "file", "payload": {"sha256": digest}})
    if not is_corrupt:
        person.spawn(_fetch(person, upload))


async def _carry(person: Participant, authorized: Json, data: bytes) -> bool:
    """The bytes to where they were told to go; true when they are there."""
    if "single" in authorized:
        single = authorized["single"]
        answer = await http_client.request(single["method"], single["url"], single["headers"], data, 15)
        return answer.status in {200, 201, 204}
    connection = await person.connected()
    size, offset = authorized["socket"]["chunk_size"], 0
    for _ in range(len(data) // size + 8):
        piece = data[offset : offset + size]
        chunk = {"upload_id": authorized["upload_id"], "offset": offset, "data": base64.b64encode(piece).decode()}
        async with asyncio.timeout(ANSWER_S):
            answer_ = await connection.ask("file.chunk", chunk, FILES)
        told = answer_["payload"]
        if answer_["type"] == "connection.error":
            return bool(told["code"] == 4021)  # noqa: PLR2004 - all was taken before, the answer got lost
        offset = told["next_offset"]
        if offset >= len(data):
            return True
        if not told["accepted"] or told["window"] == 0:
            await asyncio.sleep(0.1)
    return False


async def _fetch(person: Participant, file_id: str) -> None:
    """The file as it is served, once it is ready."""
    for _ in range(TRIES_MAX):
        try:
            connection = await person.connected()
            async with asyncio.timeout(ANSWER_S):
                answer = await connection.ask("file.url", {"file_id": file_id}, FILES)
            if answer["type"] == "connection.error" and answer["payload"]["code"] == 4018:  # noqa: PLR2004
                return  # it failed
            if answer["type"] == "file.url":
                op = person.begin("file.get", FILES, {"file_id": file_id})
                found = await http_client.request("GET", answer["payload"]["url"], {}, b"", 15)
                if found.status == 200:  # noqa: PLR2004
                    digest = base64.b64encode(hashlib.sha256(found.body).digest()).decode()
                    person.recorder.write("ok", op=op, reply={"type": "file", "payload": {"sha256": digest}})
                    return
                person.recorder.write("fail", op=op, code=found.status)
        except (SocketLost, *HTTP_ERRORS):
            pass
        await asyncio.sleep(person.chance.uniform(0.2, 0.8))


async def expire(person: Participant) -> None:
    """Go on with a token that ends in a moment, and is tried afterwards."""
    gone_at = person.token_id
    person.renew_token(ttl_s=4.0)
    old, gone = person.token, person.token_id
    if person.connection is not None and gone_at != gone:
        await person.connection.close("new token", is_own=True)
    await asyncio.sleep(4)
    if person.token_id == gone:
        person.renew_token()
    await asyncio.sleep(36)
    await try_ended(person, gone, old)


async def revoke(person: Participant) -> None:
    """Have the own token revoked; go on with another one."""
    gone, old = person.token_id, person.token
    person.renew_token()
    for _ in range(TRIES_MAX):
        asked = {"token": gone}
        found = await person.operate(
            "token.revoke", f"user:{person.user}", asked, "/v1/revocations", body={"jti": gone}
        )
        if found.kind == "ok":
            break
        await asyncio.sleep(0.3)
    person.revoked.append((gone, old))
    await asyncio.sleep(6)
    await try_ended(person, gone, old)


async def try_ended(person: Participant, gone: str, old: str) -> None:
    """A token that has ended is tried at every node."""
    for node in sorted(person.setting.urls):
        path = f"/v1/channels/{TALK}/state"
        await person.operate("read.state", TALK, {}, path, node=node, ended=(gone, old))


DOINGS: Final[dict[Callable[[Participant], Coroutine[Any, Any, None]], float]] = {
    talk: 60,
    change: 10,
    act: 8,
    note: 4,
    notify: 4,
    mark: 4,
    typing: 4,
    look: 4,
    page: 4,
    clear_inbox: 4,
    ask: 2,
    configure: 3,
    refresh: 1,
    upload: 1,
}
"""Things people do, and how often, compared with each other."""
