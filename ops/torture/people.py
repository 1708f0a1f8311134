"""The people of a run: each has a connection that comes and goes, channels it follows by cursor, and things it does.

What a person begins is sent with the same command id until it is clear what became of it, to any node, by socket or HTTP.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import random
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

from ops.torture import http_client
from ops.torture.connection import HeldCursor, Json, Outcome, PersonSocket, Self, SocketLost
from ops.torture.history import Recorder, now_ms

TALK: Final = "conversation:talk"
ASK: Final = ("conversation:ask-0", "conversation:ask-1", "conversation:ask-2")
FILES: Final = "conversation:files"
CREW: Final = "team:crew"
NOTES: Final = "document:notes"
ANSWER_S: Final = 8.0
TRIES_MAX: Final = 60
_HTTP_ERRORS: Final = (OSError, TimeoutError, EOFError, ValueError)


KINDS: Final = ("conversation", "team", "document", "agent", "user")


def sign(secret: str, user: str, tenant: str, token_id: str, ttl_s: float) -> str:
    """A token (HS256, RFC 7515 and 7519) that may do everything in its tenant, signed without the hub's code."""
    now = time.time()
    claims = {
        "sub": user,
        "tenant": tenant,
        "aud": "hub",
        "iat": int(now),
        "exp": int(now + ttl_s),
        "jti": token_id,
        "grants": {**{f"{kind}:*": ["*"] for kind in KINDS}, "*": ["*"]},
    }
    signed = f"{_part({'alg': 'HS256', 'typ': 'JWT'})}.{_part(claims)}"
    mac = hmac.digest(secret.encode(), signed.encode(), hashlib.sha256)
    return f"{signed}.{_base64(mac)}"


def _part(value: object) -> str:
    return _base64(json.dumps(value, separators=(",", ":")).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass(slots=True)
class ClientSettings:
    """The settings of a process of people."""

    tenant: str
    mark: str
    urls: dict[str, str]
    secret: str
    seed: int
    rate_per_s: float
    is_calm: bool = False
    is_quiet: bool = False

    def become_calm(self) -> None:
        """Nothing is broken any more: connections stay."""
        self.is_calm = True

    def become_quiet(self) -> None:
        """Nothing new is begun."""
        self.is_quiet = True


@dataclass(slots=True)
class Participant:
    """Somebody in one tenant.

    Args:
        run: which life of the process this is: command ids must not repeat.
        follows: channel → what its subscription says.
    """

    recorder: Recorder
    setting: ClientSettings
    user: str
    run: int
    follows: dict[str, Json]
    chance: random.Random
    cursors: dict[str, HeldCursor] = field(default_factory=dict)
    connection: PersonSocket | None = None
    busy: int = 0
    own_messages: list[str] = field(default_factory=list)
    seen_ids: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    session_id: str = ""
    token: str = ""
    token_id: str = ""
    token_ends_ms: float = 0.0
    version: int = 0
    revoked: list[tuple[str, str]] = field(default_factory=list)
    _numbers: int = 0
    _tokens: int = 0
    _there: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    # connecting

    def renew_token(self, ttl_s: float = 3_600.0) -> None:
        """A new token."""
        self._tokens += 1
        self.token_id = f"{self.setting.tenant}-{self.user}-{self.run}-{self._tokens}"
        self.token = sign(self.setting.secret, self.user, self.setting.tenant, self.token_id, ttl_s)
        self.token_ends_ms = now_ms() + ttl_s * 1000
        self.recorder.write(
            "token", id=self.token_id, tenant=self.setting.tenant, user=self.user, ends=self.token_ends_ms
        )

    def who(self, node: str) -> Self:
        """This person at a node, with the token of now."""
        return Self(self.setting.tenant, self.user, node, self.token_id)

    async def stay(self) -> None:
        """Be connected until cancelled: again and again, on any node, each time in another way."""
        while True:
            if not self.token or self.token_ends_ms < now_ms() + 2_000:
                self.renew_token()
            node, url = self.chance.choice(sorted(self.setting.urls.items()))
            connection = PersonSocket(self.recorder, self.who(node), self.cursors)
            try:
                await self._open(connection, url)
                self.connection = connection
                self._there.set()
                await self._while_open(connection)
            except SocketLost:
                await asyncio.sleep(self.chance.uniform(0.05, 0.4))
            finally:
                self._there.clear()
                self.connection = None
                await connection.close("closed", is_own=True)
            if connection.close_code in {4002, 4019}:
                self.renew_token()

    async def _open(self, connection: PersonSocket, url: str) -> None:
        capabilities = ["batch"] if self.chance.random() < 0.7 else []  # noqa: PLR2004
        known = {
            name: held for name, held in self.cursors.items() if name in self.follows or name == f"user:{self.user}"
        }
        if known and self.chance.random() < 0.5:  # noqa: PLR2004
            await connection.open(url, self.token, resumes=known, capabilities=capabilities)
            missing = {name: wish for name, wish in self.follows.items() if name not in known}
        else:
            await connection.open(url, self.token, capabilities=capabilities)
            missing = dict(self.follows)
        if missing:
            async with asyncio.timeout(ANSWER_S):
                await connection.subscribe({name: self._wish(name, wish) for name, wish in missing.items()})

    def _wish(self, channel: str, wish: Json) -> Json:
        """A subscription: from the cursor, the first time from the beginning, now and then live only."""
        if self.chance.random() < 0.1:  # noqa: PLR2004
            return {**wish, "after": "$"}
        return wish if channel in self.cursors else {**wish, "after": "0"}

    async def _while_open(self, connection: PersonSocket) -> None:
        """Until it is cut, or, while things are broken, until this person has had enough of it."""
        patience_s = self.chance.expovariate(1 / 7)
        beat = asyncio.create_task(self._beat(connection))
        try:
            while not connection.ended.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(patience_s):
                        await connection.ended.wait()
                if not self.setting.is_calm:
                    return
                patience_s = 1.0
        finally:
            beat.cancel()
            await asyncio.gather(beat, return_exceptions=True)

    async def _beat(self, connection: PersonSocket) -> None:
        """Signs of life, and channels asked for again; a connection that does not answer is given up."""
        while True:
            await asyncio.sleep(1.5)
            again = connection.take_refused()
            try:
                async with asyncio.timeout(4):
                    await connection.ask("connection.heartbeat", {})
                    if again:
                        wishes = {name: self._wish(name, self.follows.get(name, {})) for name in again}
                        await connection.subscribe(wishes)
            except (SocketLost, TimeoutError):
                await connection.close("no heartbeat", is_own=False)
                return

    async def connected(self) -> PersonSocket:
        """The connection, as soon as there is one."""
        while self.connection is None or self.connection.ended.is_set():
            await self._there.wait()
            await asyncio.sleep(0.02)
        return self.connection

    # storing

    def new_id(self) -> str:
        """A command id this person has not used."""
        self._numbers += 1
        return f"{self.run}-{self._numbers}"

    async def store(self, kind: str, channel: str, payload: Json, command_id: str | None = None) -> Json | None:
        """A command, sent until it is clear what became of it; its receipt, or None when it was refused or is still open."""
        command_id = command_id or self.new_id()
        self.busy += 1
        try:
            for _ in range(TRIES_MAX):
                outcome = await self._send(kind, channel, payload, command_id)
                if outcome.kind == "ok":
                    if self.chance.random() < 0.1 and not self.setting.is_quiet:  # noqa: PLR2004
                        await self._send(kind, channel, payload, command_id)
                    return outcome.payload
                if outcome.kind == "fail":
                    return None
                await asyncio.sleep(self.chance.uniform(0.1, 0.5))
            return None
        finally:
            self.busy -= 1

    async def _send(self, kind: str, channel: str, payload: Json, command_id: str) -> Outcome:
        by_http = self.chance.random() < 0.12 and not kind.startswith("file.")  # noqa: PLR2004
        if by_http:
            return await self.post(kind, channel, payload, command_id)
        connection = await self.connected()
        return await connection.command(kind, payload, channel, command_id)

    async def post(self, kind: str, channel: str, payload: Json, command_id: str, path: str | None = None) -> Outcome:
        """A command by HTTP."""
        node, url = self.chance.choice(sorted(self.setting.urls.items()))
        headers = {**self._headers(), "Idempotency-Key": command_id, "Content-Type": "application/json"}
        body = json.dumps({"type": kind, "payload": payload}, ensure_ascii=False).encode()
        op = self._invoke(node, kind, channel, payload, id=command_id)
        try:
            answer = await http_client.request(
                "POST", url + (path or f"/v1/channels/{channel}/events"), headers, body, ANSWER_S
            )
        except _HTTP_ERRORS as error:
            self.recorder.write("unknown", op=op, why=repr(error))
            return Outcome("unknown")
        return self._settle(op, answer)

    def _settle(self, op: str, answer: http_client.HttpAnswer) -> Outcome:
        found = answer.json()
        if answer.status in {200, 201} and isinstance(found, dict):
            self.recorder.write("ok", op=op, reply={"type": "http", "payload": found})
            return Outcome("ok", found)
        code = found.get("code", answer.status) if isinstance(found, dict) else answer.status
        if answer.status >= 500 or answer.status == 429:  # noqa: PLR2004
            self.recorder.write("unknown", op=op, why=str(code))
            return Outcome("unknown", code=code)
        self.recorder.write("fail", op=op, code=code)
        return Outcome("fail", code=code)

    def _headers(self) -> dict[str, str]:
        if not self.token or self.token_ends_ms < now_ms() + 2_000:
            self.renew_token()
        return {"Authorization": f"Bearer {self.token}"}

    def _invoke(self, node: str, kind: str, channel: str, payload: Json, **more: Any) -> str:
        return self.recorder.invoke(
            tenant=self.setting.tenant,
            user=self.user,
            node=node,
            via="http",
            type=kind,
            channel=channel,
            payload=payload,
            token=self.token_id,
            **more,
        )

    async def get(self, kind: str, path: str, channel: str, payload: Json, node: str | None = None) -> Outcome:
        """A question by HTTP, recorded as an operation of the type `kind`."""
        node = node or self.chance.choice(sorted(self.setting.urls))
        headers = self._headers()
        op = self._invoke(node, kind, channel, payload)
        try:
            answer = await http_client.request("GET", self.setting.urls[node] + path, headers, b"", ANSWER_S)
        except _HTTP_ERRORS as error:
            self.recorder.write("unknown", op=op, why=repr(error))
            return Outcome("unknown")
        if kind == "read.page" and answer.status == 200:  # noqa: PLR2004
            text = answer.body.decode()
            page = PersonSocket(self.recorder, self.who(node), {}).page_of(text, json.loads(text))
            self.recorder.write("ok", op=op, reply={"type": "http", "payload": page})
            return Outcome("ok", page)
        return self._settle(op, answer)

    # doing

    def text(self, length: int | None = None) -> str:
        """Something to say, with the tenant's mark, that nobody else says."""
        size = length if length is not None else self.chance.choice((0, 10, 40, 200, 1_000))
        return f"{self.setting.mark}{self.user} {self.run} {self._numbers}|" + "é𝄞" * (size // 2)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do something beside the rest."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def idle(self) -> None:
        """Until nothing is on its way any more, or for a minute: what is open then, the checker names."""
        deadline_ms = now_ms() + 60_000
        while (self._tasks or self.busy) and now_ms() < deadline_ms:  # noqa: ASYNC110 - several things end, and any of them may begin another
            await asyncio.sleep(0.05)

    async def live(self) -> None:
        """Do things until it is quiet, a few at a time."""
        doings, weights = list(_DOINGS), list(_DOINGS.values())
        while not self.setting.is_quiet:
            await asyncio.sleep(self.chance.expovariate(self.setting.rate_per_s))
            if len(self._tasks) < 6 and not self.setting.is_quiet:  # noqa: PLR2004
                doing = self.chance.choices(doings, weights)[0]
                self.spawn(doing(self))

    async def talk(self) -> None:
        """Say something in the busy room."""
        receipt = await self.store("chat.message", TALK, {"text": self.text()})
        if receipt is not None:
            self.own_messages = [*self.own_messages[-20:], receipt["id"]]
            self._remember(TALK, receipt)

    def _remember(self, channel: str, receipt: Json) -> None:
        held = self.seen_ids.setdefault(channel, [])
        held.append((receipt["id"], receipt["seq"]))
        del held[:-100]

    async def change(self) -> None:
        """Edit, react to or delete an own message."""
        if not self.own_messages:
            return
        message, dice = self.chance.choice(self.own_messages), self.chance.random()
        if dice < 0.4:  # noqa: PLR2004
            edit = {"message_id": message, "text": self.text(20), "mode": self.chance.choice(("replace", "branch"))}
            await self.store("chat.edit", TALK, {**edit, "rerun": False})
        elif dice < 0.9:  # noqa: PLR2004
            reaction = {
                "message_id": message,
                "reaction": self.chance.choice("👍🎉❤"),
                "op": self.chance.choice(("add", "remove")),
            }
            await self.store("chat.react", TALK, reaction)
        else:
            self.own_messages.remove(message)
            await self.store("chat.delete", TALK, {"message_id": message, "scope": "self"})

    async def configure(self) -> None:
        """Give the room another title."""
        await self.store("chat.configure", TALK, {"settings": {"title": self.text(4)}})

    async def act(self) -> None:
        """Something in the team."""
        thing = {"type": "ticket", "id": str(self._numbers), "title": self.text(2)}
        await self.store("team.activity", CREW, {"verb": "opened", "object": thing, "summary": self.text(10)})

    async def note(self) -> None:
        """A patch to the shared document; one that comes late is refused."""
        patch = [{"op": "add", "path": f"/{self.user}-{self.chance.randrange(20)}", "value": self.text(2)}]
        base = self.version
        receipt = await self.store("document.update", NOTES, {"base_version": base, "patch": patch})
        if receipt is not None and "version" in receipt:
            self.version = receipt["version"]
            return
        self.busy += 1
        try:
            found = await self.get("read.state", f"/v1/channels/{NOTES}/state", NOTES, {})
        finally:
            self.busy -= 1
        if found.kind == "ok":
            self.version = found.payload["state"].get("version", 0)

    async def notify(self) -> None:
        """Something for somebody's inbox."""
        to = self.chance.choice(("ann", "ben", "cem"))
        payload = {"kind": "torture", "title": self.text(2)}
        command_id = self.new_id()
        for _ in range(TRIES_MAX):
            outcome = await self.post("team.notification", f"user:{to}", payload, command_id, f"/v1/users/{to}/events")
            if outcome.kind != "unknown":
                return
            await asyncio.sleep(self.chance.uniform(0.1, 0.5))

    async def clear_inbox(self) -> None:
        """Read the own inbox up to where it is known."""
        held = self.cursors.get(f"user:{self.user}")
        if held is not None and held.seq:
            await self.store("team.notification.read", f"user:{self.user}", {"up_to": held.id})

    async def mark(self) -> None:
        """Say how far one has read."""
        held = self.cursors.get(TALK)
        if held is not None and held.seq:
            connection = await self.connected()
            await connection.command("channel.read", {"up_to": held.id}, TALK, self.new_id())

    async def typing(self) -> None:
        """Say that one types; nobody answers that."""
        with contextlib.suppress(SocketLost):
            await (await self.connected()).say("chat.typing", {"state": "start", "ttl_ms": 2_000}, TALK)

    async def ask(self) -> None:
        """Ask the agent."""
        text = self.text(4) + self.chance.choice(("", "pay"))
        await self.store("chat.message", self.chance.choice(ASK), {"text": text, "agent": "torture"})

    async def look(self) -> None:
        """A state: by socket, by HTTP, or as of an earlier event."""
        channel = self.chance.choice((TALK, ASK[0], CREW, NOTES, f"user:{self.user}", FILES))
        dice = self.chance.random()
        held = self.seen_ids.get(channel)
        if dice < 0.4:  # noqa: PLR2004
            await (await self.connected()).read("read.state", "channel.state", {}, channel)
        elif dice < 0.7 or not held:  # noqa: PLR2004
            await self.get("read.state", f"/v1/channels/{channel}/state", channel, {})
        else:
            at = self.chance.choice(held)[0]
            await self.get("read.state", f"/v1/channels/{channel}/state?at={at}", channel, {"at": at})

    async def page(self) -> None:
        """A page of the past."""
        channel = self.chance.choice((TALK, CREW))
        held = self.seen_ids.get(channel) or []
        after, seq = self.chance.choice(held) if held and self.chance.random() < 0.8 else ("0", 0)  # noqa: PLR2004
        asked: Json = {"after": after, "limit": 50}
        if self.chance.random() < 0.5:  # noqa: PLR2004
            await (await self.connected()).read("read.page", "channel.history", {**asked, "after_seq": seq}, channel)
        else:
            path = f"/v1/channels/{channel}/events?after={after}&limit=50"
            await self.get("read.page", path, channel, {**asked, "after_seq": seq})

    async def refresh(self) -> None:
        """A new token on a living connection; the old one stays good, too."""
        connection = await self.connected()
        with contextlib.suppress(SocketLost, TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                await connection.ask("connection.refresh", {"token": self.token})

    async def upload(self) -> None:
        """A file, by signed URL or over the socket; now and then its bytes are not those that were announced."""
        size = self.chance.choice((0, 10, 5_000, 300_000))
        data = (self.setting.mark.encode() + self.chance.randbytes(64) * (size // 64 + 1))[: max(size, 12)]
        is_corrupt = self.chance.random() < 0.2  # noqa: PLR2004
        strategy = self.chance.choice(("single", "socket"))
        digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
        asked = {
            "filename": f"{self.setting.mark}{self._numbers}.bin",
            "size": len(data),
            "mime": "application/octet-stream",
            "strategy": strategy,
            "sha256": digest,
        }
        request_id = self.new_id()
        authorized = await self.store("file.upload.request", FILES, asked, request_id)
        if authorized is None:
            return
        sent = bytes([data[0] ^ 1]) + data[1:] if is_corrupt else data
        await self._bring(authorized, sent, digest, is_corrupt=is_corrupt)

    async def _bring(self, authorized: Json, data: bytes, digest: str, *, is_corrupt: bool) -> None:
        upload = authorized["upload_id"]
        payload = {"file_id": upload, "sha256": digest, "is_corrupt": is_corrupt}
        op = self._invoke("", "file.put", FILES, payload)
        self.busy += 1
        try:
            for _ in range(TRIES_MAX):
                try:
                    is_there = await self._carry(authorized, data)
                except (SocketLost, *_HTTP_ERRORS):
                    is_there = False
                if is_there or is_corrupt:
                    break
                await asyncio.sleep(self.chance.uniform(0.2, 0.8))
            receipt = await self.store("file.upload.complete", FILES, {"upload_id": upload})
        finally:
            self.busy -= 1
        if receipt is None:
            self.recorder.write("fail", op=op, code=0)
            return
        self.recorder.write("ok", op=op, reply={"type": "file", "payload": {"sha256": digest}})
        if not is_corrupt:
            self.spawn(self._fetch(upload))

    async def _carry(self, authorized: Json, data: bytes) -> bool:
        """The bytes to where they were told to go; true when they are there."""
        if "single" in authorized:
            single = authorized["single"]
            answer = await http_client.request(single["method"], single["url"], single["headers"], data, 15)
            return answer.status in {200, 201, 204}
        connection = await self.connected()
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

    async def _fetch(self, file_id: str) -> None:
        """The file as it is served, once it is ready."""
        self.busy += 1
        try:
            for _ in range(TRIES_MAX):
                try:
                    connection = await self.connected()
                    async with asyncio.timeout(ANSWER_S):
                        answer = await connection.ask("file.url", {"file_id": file_id}, FILES)
                    if answer["type"] == "connection.error" and answer["payload"]["code"] == 4018:  # noqa: PLR2004
                        return  # it failed
                    if answer["type"] == "file.url":
                        op = self._invoke("", "file.get", FILES, {"file_id": file_id})
                        found = await http_client.request("GET", answer["payload"]["url"], {}, b"", 15)
                        if found.status == 200:  # noqa: PLR2004
                            digest = base64.b64encode(hashlib.sha256(found.body).digest()).decode()
                            self.recorder.write("ok", op=op, reply={"type": "file", "payload": {"sha256": digest}})
                            return
                        self.recorder.write("fail", op=op, code=found.status)
                except (SocketLost, *_HTTP_ERRORS):
                    pass
                await asyncio.sleep(self.chance.uniform(0.2, 0.8))
        finally:
            self.busy -= 1

    async def expire(self) -> None:
        """Go on with a token that ends in a moment, and is tried afterwards."""
        gone_at = self.token_id
        self.renew_token(ttl_s=4.0)
        old, gone = self.token, self.token_id
        if self.connection is not None and gone_at != gone:
            await self.connection.close("new token", is_own=True)
        await asyncio.sleep(4)
        if self.token_id == gone:
            self.renew_token()
        await asyncio.sleep(36)
        await self.try_ended(gone, old)

    async def revoke(self) -> None:
        """Have the own token revoked; go on with another one."""
        gone = self.token_id
        old = self.token
        self.renew_token()
        node, url = self.chance.choice(sorted(self.setting.urls.items()))
        for _ in range(TRIES_MAX):
            op = self._invoke(node, "token.revoke", f"user:{self.user}", {"token": gone})
            body = json.dumps({"jti": gone}).encode()
            headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
            try:
                answer = await http_client.request("POST", f"{url}/v1/revocations", headers, body, ANSWER_S)
            except _HTTP_ERRORS as error:
                self.recorder.write("unknown", op=op, why=repr(error))
            else:
                self._settle(op, answer)
                if answer.status in {200, 201}:
                    break
            await asyncio.sleep(0.3)
        self.revoked.append((gone, old))
        await asyncio.sleep(6)
        await self.try_ended(gone, old)

    async def try_ended(self, gone: str, old: str) -> None:
        """A token that has ended is tried at every node."""
        for node, url in sorted(self.setting.urls.items()):
            op = self.recorder.invoke(
                tenant=self.setting.tenant,
                user=self.user,
                node=node,
                via="http",
                type="read.state",
                channel=TALK,
                payload={},
                token=gone,
            )
            try:
                answer = await http_client.request(
                    "GET", f"{url}/v1/channels/{TALK}/state", {"Authorization": f"Bearer {old}"}, b"", ANSWER_S
                )
            except _HTTP_ERRORS as error:
                self.recorder.write("unknown", op=op, why=repr(error))
            else:
                self._settle(op, answer)


_DOINGS: Final[dict[Callable[[Participant], Coroutine[Any, Any, None]], float]] = {
    Participant.talk: 60,
    Participant.change: 10,
    Participant.act: 8,
    Participant.note: 4,
    Participant.notify: 4,
    Participant.mark: 4,
    Participant.typing: 4,
    Participant.look: 4,
    Participant.page: 4,
    Participant.clear_inbox: 4,
    Participant.ask: 2,
    Participant.configure: 3,
    Participant.refresh: 1,
    Participant.upload: 1,
}
"""Things people do, and how often, compared with each other."""


async def follow_by_sse(person: Participant, channel: str) -> None:
    """Follow a channel over Server-Sent Events, from stream to stream by its last event id."""
    cursor: HeldCursor | None = None
    while True:
        node, url = person.chance.choice(sorted(person.setting.urls.items()))
        headers = person._headers()  # noqa: SLF001 - one of the ways a person follows
        reader = person.recorder.name()
        told = {"after": cursor.id, "seq": cursor.seq, "since": cursor.since} if cursor else {"after": "0"}
        person.recorder.write(
            "subscribe",
            r=reader,
            p=person.recorder.process,
            tenant=person.setting.tenant,
            user=person.user,
            node=node,
            via="sse",
            channel=channel,
            cursor=told,
            token=person.token_id,
            there=True,
            presence=False,
        )
        patience_s = person.chance.expovariate(1 / 10)
        why = "closed"
        try:
            async with asyncio.timeout(None if person.setting.is_calm else patience_s):
                async for kind, data in _sse(f"{url}/v1/channels/{channel}/stream?after={told['after']}", headers):
                    cursor = _taken(person, reader, kind, data, cursor)
        except PermissionError as error:
            why = f"refused {error}"
        except _HTTP_ERRORS as error:
            why = repr(error)
        person.recorder.write("left", r=reader, why=why, is_own=False)
        await asyncio.sleep(person.chance.uniform(0.1, 0.5))


async def _sse(url: str, headers: dict[str, str]) -> Any:
    """(Event name, data) of each event; heartbeats keep it alive."""
    kind, data = "", ""
    async for line in http_client.lines(url, headers, timeout_s=12):
        text = line.decode()
        if text.startswith("event: "):
            kind = text.removeprefix("event: ")
        elif text.startswith("data: "):
            data = text.removeprefix("data: ")
        elif not text and data:
            yield kind, data
            kind, data = "", ""


def _taken(person: Participant, reader: str, kind: str, data: str, cursor: HeldCursor | None) -> HeldCursor | None:
    """Record one event of the stream; the cursor after it."""
    message = json.loads(data)
    size = len(data.encode())
    if kind == "channel.subscribed":
        person.recorder.write("subscribed", r=reader, n=size, payload=message["payload"])
        head = message["payload"]["head"]
        if message["payload"].get("gap"):
            return HeldCursor(head["id"], head["seq"], message["payload"]["epoch"], now_ms())
    elif kind == "connection.error":
        raise PermissionError(str(message["payload"]["code"]))
    elif kind == "channel.resumed":
        person.recorder.write("resumed", r=reader, payload=message["payload"])
    elif "seq" in message:
        name = person.recorder.bytes_of(data.encode())
        person.recorder.write("got", r=reader, n=size, e=[[message["seq"], message["id"], name]])
        return HeldCursor(message["id"], message["seq"], "", now_ms())
    elif not kind:
        person.recorder.write("signal", r=reader, raw=data)
    return cursor
