"""The actions of simulated people: write, change, ask, read, upload, and lose their tokens."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
from collections.abc import Callable, Coroutine
from typing import Any, Final

from ops.torture import http_client
from ops.torture.connection import ANSWER_S, Json, Outcome, PersonSocket, SocketLost
from ops.torture.people import ASK, CREW, FILES, HTTP_ERRORS, NOTES, TALK, TRIES_MAX, Participant

_REVOKED: Final = 4019
STORY_MESSAGES: Final = 90
STORY_CHARACTERS: Final = 32_000
"""Length of each message of a long burst: together they exceed what the buffers of an unread socket can hold."""


async def talk(person: Participant) -> None:
    """Write a message in the busy conversation."""
    receipt = await person.store("chat.message", TALK, {"text": person.text()})
    if receipt is not None:
        person.remember(TALK, receipt)


async def change(person: Participant) -> None:
    """Edit, react to or delete a message of one's own."""
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
        command_id, gone = person.new_id(), {"message_id": message, "scope": "self"}
        if await person.store("chat.delete", TALK, gone, command_id) is not None:
            await person.send_again("chat.delete", TALK, gone, command_id)


async def configure(person: Participant) -> None:
    """Change the conversation's title."""
    await person.store("chat.configure", TALK, {"settings": {"title": person.text(4)}})


async def act(person: Participant) -> None:
    """Post an activity to the team."""
    thing = {"type": "ticket", "id": str(person.numbers), "title": person.text(2)}
    activity = {"verb": "opened", "object": thing, "summary": person.text(10)}
    receipt = await person.store("team.activity", CREW, activity)
    if receipt is not None:
        person.remember(CREW, receipt)


async def note(person: Participant) -> None:
    """Send a patch for the shared document; a patch for an old version is refused."""
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
    """Send a notification to another person's inbox."""
    to = person.chance.choice(("ann", "ben", "cem"))
    payload = {"kind": "torture", "title": person.text(2)}
    command_id = person.new_id()
    for _ in range(TRIES_MAX):
        outcome = await person.post("team.notification", f"user:{to}", payload, command_id, f"/v1/users/{to}/events")
        if outcome.kind != "unknown":
            return
        await asyncio.sleep(person.chance.uniform(0.1, 0.5))


async def clear_inbox(person: Participant) -> None:
    """Mark one's own inbox as read up to the newest known notification."""
    held = person.cursors.get(f"user:{person.user}")
    if held is not None and held.seq:
        await person.store("team.notification.read", f"user:{person.user}", {"up_to": held.id})


async def mark(person: Participant) -> None:
    """Send a read position, which is sometimes older than the previous one."""
    held, seen = person.cursors.get(TALK), person.seen_ids.get(TALK)
    if held is not None and held.seq:
        up_to = person.chance.choice(seen)[0] if seen and person.chance.random() < 0.3 else held.id  # noqa: PLR2004
        connection = await person.connected()
        await connection.command("channel.read", {"up_to": up_to}, TALK, person.new_id())


async def typing(person: Participant) -> None:
    """Send a typing indication, which has no reply."""
    with contextlib.suppress(SocketLost):
        await (await person.connected()).say("chat.typing", {"state": "start", "ttl_ms": 2_000}, TALK)


async def ask(person: Participant) -> None:
    """Ask the agent, if there is one, directly or as the conversation's default agent."""
    if person.setting.agent:
        asked: Json = {"text": person.text(4) + person.chance.choice(("", "pay"))}
        if person.chance.random() < 0.6:  # noqa: PLR2004
            asked["agent"] = person.setting.agent
        await person.store("chat.message", person.chance.choice(ASK), asked)


async def appoint(person: Participant) -> None:
    """Ask a conversation's default agent, change that agent through another node, and ask again a moment later."""
    agent = person.begin_appointing()
    if not agent:
        return
    try:
        here = (await person.connected()).who.node
        await person.store("chat.message", ASK[0], {"text": person.text(4)})
        node = next((name for name in sorted(person.setting.urls) if name != here), here)
        command_id = person.new_id()
        for _ in range(TRIES_MAX):
            outcome = await person.post("chat.configure", ASK[0], {"settings": {"agent": agent}}, command_id, node=node)
            if outcome.kind != "unknown":
                break
            await asyncio.sleep(person.chance.uniform(0.1, 0.5))
        await asyncio.sleep(1.5)
        await person.store("chat.message", ASK[0], {"text": person.text(4)})
    finally:
        person.end_appointing()


async def look(person: Participant) -> None:
    """Read a state: by socket, by HTTP, or as of an earlier event."""
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
    """Read some consecutive pages of history, in either direction, of all or some event types."""
    channel = person.chance.choice((TALK, CREW))
    held = person.seen_ids.get(channel) or []
    event_id, seq = person.chance.choice(held) if held and person.chance.random() < 0.8 else ("0", 0)  # noqa: PLR2004
    asked: Json = {"limit": person.chance.choice((2, 10, 50))}
    way = "before" if seq and person.chance.random() < 0.5 else "after"  # noqa: PLR2004
    if person.chance.random() < 0.3:  # noqa: PLR2004
        asked["types"] = ["chat.re*", "chat.edit"]
    elif way == "after":
        asked["after_seq"] = seq
    for _ in range(3):
        outcome = await _read_page(person, channel, {**asked, way: event_id})
        event_id = outcome.payload.get("next") or ""
        if not event_id:
            return
        asked.pop("after_seq", None)


async def _read_page(person: Participant, channel: str, asked: Json) -> Outcome:
    if person.chance.random() < 0.5:  # noqa: PLR2004
        return await (await person.connected()).read("read.page", "channel.history", asked, channel)
    query = "&".join(
        f"{name}={','.join(value) if isinstance(value, list) else value}"
        for name, value in asked.items()
        if name != "after_seq"
    )
    return await person.get("read.page", f"/v1/channels/{channel}/events?{query}", channel, asked)


async def doze(person: Participant) -> None:
    """Follow a channel on a second socket, leave it unread during a long burst of messages, then read on."""
    if not person.begin_story():
        return
    node = person.chance.choice(sorted(person.setting.urls))
    connection = PersonSocket(person.recorder, person.who(node), {})
    try:
        await connection.open(person.setting.urls[node], person.token, capabilities=["batch"])
        async with asyncio.timeout(ANSWER_S):
            await connection.subscribe({FILES: {"after": "$", "state": False}})
        connection.pause_reading()
        for _ in range(STORY_MESSAGES):
            await person.store("chat.message", FILES, {"text": f"{person.text(0)}{'x' * STORY_CHARACTERS}"})
        connection.resume_reading()
        await asyncio.sleep(4)
    except (SocketLost, TimeoutError):
        return
    finally:
        await connection.close("closed", is_own=True)


async def refresh(person: Participant) -> None:
    """Refresh the token of a live connection; the old one remains valid."""
    connection = await person.connected()
    with contextlib.suppress(SocketLost, TimeoutError):
        async with asyncio.timeout(ANSWER_S):
            await connection.ask("connection.refresh", {"token": person.token})


async def upload(person: Participant) -> None:
    """Upload a file, by signed URL or over the socket; sometimes its bytes differ from the announced ones."""
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
    """Send the bytes as authorized; true if they arrived."""
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
    """Download the file once it is ready."""
    for _ in range(TRIES_MAX):
        try:
            connection = await person.connected()
            async with asyncio.timeout(ANSWER_S):
                answer = await connection.ask("file.url", {"file_id": file_id}, FILES)
            if answer["type"] == "connection.error" and answer["payload"]["code"] == 4018:  # noqa: PLR2004
                return  # the upload failed
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
    """Use a token that expires in a moment, and try it again after its expiry."""
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
    """Revoke one's own token or all of one's tokens, and continue with a new one."""
    gone, old = person.token_id, person.token
    person.renew_token()
    is_of_all = len(person.revoked) % 2 == 0
    body = {"sub": person.user} if is_of_all else {"jti": gone}
    for _ in range(TRIES_MAX):
        asked = {"token": gone, "all": is_of_all}
        found = await person.operate("token.revoke", f"user:{person.user}", asked, "/v1/revocations", body=body)
        if found.kind == "ok" or found.code == _REVOKED:
            break
        await asyncio.sleep(0.3)
    if is_of_all:  # this includes the current token and every one issued in this second
        await asyncio.sleep(1.1)
        person.renew_token()
    person.revoked.append((gone, old))
    await asyncio.sleep(6)
    await try_ended(person, gone, old)


async def try_ended(person: Participant, gone: str, old: str) -> None:
    """Try a token that is no longer valid on every node."""
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
    page: 8,
    clear_inbox: 4,
    ask: 3,
    appoint: 10,
    doze: 2,
    configure: 3,
    refresh: 1,
    upload: 1,
}
"""The actions of people with their relative frequencies."""
