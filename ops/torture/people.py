"""The simulated people of a run: each has a connection that comes and goes, and follows channels by cursor.

Every command is repeated with the same ID until its outcome is known, through any node, by socket or HTTP.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import random
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from ops.torture import http_client
from ops.torture.connection import ANSWER_S, HeldCursor, Json, Outcome, PersonSocket, Self, SocketLost, settled
from ops.torture.history import Recorder, now_ms

TALK: Final = "conversation:talk"
ASK: Final = ("conversation:ask-0", "conversation:ask-1", "conversation:ask-2")
FILES: Final = "conversation:files"
CREW: Final = "team:crew"
NOTES: Final = "document:notes"
TRIES_MAX: Final = 60
HTTP_ERRORS: Final = (OSError, TimeoutError, EOFError, ValueError)

KINDS: Final = ("conversation", "team", "document", "agent", "user")


def sign(
    secret: str, user: str, tenant: str, token_id: str, ttl_s: float, more: Mapping[str, str] | None = None
) -> str:
    """Sign a token (HS256, RFC 7515 and 7519) that permits everything in its tenant, without using the hub's code.

    `more` are additional claims, such as an `aud` other than `hub`.
    """
    now = time.time()
    claims = {
        "sub": user,
        "tenant": tenant,
        "aud": "hub",
        "iat": int(now),
        "exp": int(now + ttl_s),
        "jti": token_id,
        "grants": {**{f"{kind}:*": ["*"] for kind in KINDS}, "*": ["*"]},
        **(more or {}),
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
    """The settings of a process that simulates people.

    Attributes:
        claims: claims added to every token.
        agent: the agent to which questions are sent; "" for none.
        mark: the marker contained in everything that is written.
    """

    tenant: str
    mark: str
    urls: dict[str, str]
    secret: str
    claims: dict[str, str]
    agent: str
    seed: int
    rate_per_s: float
    is_calm: bool = False
    is_quiet: bool = False
    is_returning: bool = False
    is_home: asyncio.Event = field(default_factory=asyncio.Event)
    is_going: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.is_home.set()

    def go_away(self) -> None:
        """Disconnect everybody without a close handshake, and stay away."""
        self.is_home.clear()
        self.is_going.set()

    def come_back(self) -> None:
        """Reconnect everybody, to the node they had left."""
        self.is_returning = True
        self.is_going.clear()
        self.is_home.set()

    def become_calm(self) -> None:
        """Note that there are no more faults: connections stay open from now on."""
        self.is_calm = True

    def become_quiet(self) -> None:
        """Begin nothing new from now on."""
        self.is_quiet = True


@dataclass(slots=True)
class Participant:
    """A simulated person in one tenant.

    Args:
        run: the number of the process, because command IDs must not repeat after a restart.
        follows: channel → options of its subscription.
    """

    recorder: Recorder
    setting: ClientSettings
    user: str
    run: int
    follows: dict[str, Json]
    chance: random.Random
    cursors: dict[str, HeldCursor] = field(default_factory=dict)
    connection: PersonSocket | None = None
    own_messages: list[str] = field(default_factory=list)
    seen_ids: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    session_id: str = ""
    token: str = ""
    token_id: str = ""
    token_ends_ms: float = 0.0
    version: int = 0
    node: str = ""
    is_told: bool = False
    appointed: str = ""
    is_appointing: bool = False
    revoked: list[tuple[str, str]] = field(default_factory=list)
    numbers: int = 0
    _tokens: int = 0
    _there: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    # connecting

    def renew_token(self, ttl_s: float = 3_600.0) -> None:
        """Use a new token."""
        self._tokens += 1
        self.token_id = f"{self.setting.tenant}-{self.user}-{self.run}-{self._tokens}"
        self.token = sign(
            self.setting.secret, self.user, self.setting.tenant, self.token_id, ttl_s, self.setting.claims
        )
        self.token_ends_ms = now_ms() + ttl_s * 1000
        self.recorder.write(
            "token", id=self.token_id, tenant=self.setting.tenant, user=self.user, ends=self.token_ends_ms
        )

    @property
    def client_id(self) -> str:
        """The client ID of this person's device, which stays the same when it reconnects."""
        return f"{self.user}-{self.run}"

    def who(self, node: str) -> Self:
        """This person at a node, with the current token."""
        return Self(self.setting.tenant, self.user, node, self.token_id)

    async def stay(self) -> None:
        """Stay connected until cancelled: reconnect again and again, to any node, in varying ways."""
        while True:
            await self.setting.is_home.wait()
            self.current_token()
            if not self.node or (not self.setting.is_returning and self.chance.random() < 0.5):  # noqa: PLR2004
                self.node = self.chance.choice(sorted(self.setting.urls))
            connection = PersonSocket(self.recorder, self.who(self.node), self.cursors)
            try:
                await self._open(connection, self.setting.urls[self.node])
                self.connection = connection
                self._there.set()
                await self._while_open(connection)
            except (SocketLost, TimeoutError):
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
            await connection.open(url, self.token, resumes=known, capabilities=capabilities, client_id=self.client_id)
            missing = {name: wish for name, wish in self.follows.items() if name not in known}
        else:
            await connection.open(url, self.token, capabilities=capabilities, client_id=self.client_id)
            missing = dict(self.follows)
        if missing:
            async with asyncio.timeout(ANSWER_S):
                await connection.subscribe({name: self._wish(name, wish) for name, wish in missing.items()})

    def _wish(self, channel: str, wish: Json) -> Json:
        """A subscription from the cursor, at first from the beginning; sometimes live, with `rewind`, or from an old cursor."""
        dice, seen = self.chance.random(), self.seen_ids.get(channel)
        if dice < 0.1:  # noqa: PLR2004
            return {**wish, "after": "$"}
        if dice < 0.2:  # noqa: PLR2004
            return {**wish, "rewind": self.chance.choice((1, 5, 30))}
        if dice < 0.3 and seen:  # noqa: PLR2004
            event_id, seq = self.chance.choice(seen)
            return {**wish, "after": event_id, "seq": seq}
        return wish if channel in self.cursors else {**wish, "after": "0"}

    async def _while_open(self, connection: PersonSocket) -> None:
        """Wait until the connection is lost; while there are faults, sometimes close it after a while."""
        patience_s = self.chance.expovariate(1 / 7)
        going = asyncio.create_task(self.setting.is_going.wait())
        beat = asyncio.create_task(self._beat(connection))
        try:
            while not connection.ended.is_set():
                ended = asyncio.create_task(connection.ended.wait())
                await asyncio.wait({ended, going}, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
                ended.cancel()
                if going.done() or not self.setting.is_calm:
                    return
                patience_s = 1.0
        finally:
            beat.cancel()
            going.cancel()
            await asyncio.gather(beat, going, return_exceptions=True)

    async def _beat(self, connection: PersonSocket) -> None:
        """Send heartbeats and repeat failed subscriptions; a connection that does not answer is dropped."""
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
        """The connection; waits until there is one."""
        while self.connection is None or self.connection.ended.is_set():
            await self._there.wait()
            await asyncio.sleep(0.02)
        return self.connection

    # storing

    def new_id(self) -> str:
        """A command ID that this person has not used."""
        self.numbers += 1
        return f"{self.run}-{self.numbers}"

    async def store(self, kind: str, channel: str, payload: Json, command_id: str | None = None) -> Json | None:
        """Send a command until its outcome is known; returns its receipt, or None if it was refused or is still open."""
        command_id = command_id or self.new_id()
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

    async def _send(self, kind: str, channel: str, payload: Json, command_id: str) -> Outcome:
        by_http = self.chance.random() < 0.12 and not kind.startswith("file.")  # noqa: PLR2004
        if by_http:
            return await self.post(kind, channel, payload, command_id)
        connection = await self.connected()
        return await connection.command(kind, payload, channel, command_id)

    async def send_again(self, kind: str, channel: str, payload: Json, command_id: str) -> Outcome:
        """Send a command again, whatever is known about it."""
        return await self._send(kind, channel, payload, command_id)

    async def post(
        self,
        kind: str,
        channel: str,
        payload: Json,
        command_id: str,
        path: str | None = None,
        node: str | None = None,
    ) -> Outcome:
        """Send a command by HTTP."""
        body = {"type": kind, "payload": payload}
        path = path or f"/v1/channels/{channel}/events"
        headers = {"Idempotency-Key": command_id}
        return await self.operate(kind, channel, payload, path, node=node, body=body, headers=headers, id=command_id)

    async def get(self, kind: str, path: str, channel: str, payload: Json, node: str | None = None) -> Outcome:
        """Send a query by HTTP, recorded as an operation of the type `kind`."""
        return await self.operate(kind, channel, payload, path, node=node)

    async def operate(
        self,
        kind: str,
        channel: str,
        payload: Json,
        path: str,
        *,
        node: str | None = None,
        body: Json | None = None,
        headers: Mapping[str, str] | None = None,
        ended: tuple[str, str] | None = None,
        **more: Any,
    ) -> Outcome:
        """Send an HTTP request; it and its outcome are recorded as an operation of the type `kind`.

        Without `node` it goes to any node; with `body` it is a POST. `ended` is the name and text of a token that is no longer
        valid, to be used instead of the current one; `more` is added to the record.
        """
        node = node or self.chance.choice(sorted(self.setting.urls))
        shown = ended[1] if ended else self.current_token()
        op = self.begin(kind, channel, payload, node, **({"token": ended[0]} if ended else {}), **more)
        sent = b"" if body is None else json.dumps(body, ensure_ascii=False).encode()
        given = {"Authorization": f"Bearer {shown}", **(headers or {})}
        if body is not None:
            given["Content-Type"] = "application/json"
        try:
            method = "GET" if body is None else "POST"
            answer = await http_client.request(method, self.setting.urls[node] + path, given, sent, ANSWER_S)
        except HTTP_ERRORS as error:
            self.recorder.write("unknown", op=op, why=repr(error))
            return Outcome("unknown")
        found = answer.json()
        is_ok = answer.status in {200, 201} and isinstance(found, dict)
        if is_ok and kind == "read.page":
            found = PersonSocket(self.recorder, self.who(node), {}).page_of(answer.body.decode(), found)
        if is_ok:
            return settled(self.recorder, op, "http", found)
        code = int(found.get("code", answer.status)) if isinstance(found, dict) else answer.status
        return settled(self.recorder, op, None, {"code": code}, is_open=answer.status >= 500)  # noqa: PLR2004

    def begin(self, kind: str, channel: str, payload: Json, node: str = "", **more: Any) -> str:
        """Record that an operation begins."""
        who = asdict(self.who(node)) | more
        return self.recorder.invoke(**who, via="http", type=kind, channel=channel, payload=payload)

    def current_token(self) -> str:
        """The token, renewed if it is about to expire."""
        if not self.token or self.token_ends_ms < now_ms() + 2_000:
            self.renew_token()
        return self.token

    # doing

    def text(self, length: int | None = None) -> str:
        """A unique text to write, with the tenant's marker."""
        size = length if length is not None else self.chance.choice((0, 10, 40, 200, 1_000))
        return f"{self.setting.mark}{self.user} {self.run} {self.numbers}|" + "é𝄞" * (size // 2)

    def remember(self, channel: str, receipt: Json) -> None:
        """Remember the position of a message that this person has written."""
        if channel == TALK:
            self.own_messages = [*self.own_messages[-20:], receipt["id"]]
        held = self.seen_ids.setdefault(channel, [])
        held.append((receipt["id"], receipt["seq"]))
        del held[:-100]

    def stand_at(self, version: int) -> None:
        """Note the newest known version of the shared document."""
        self.version = version

    def begin_story(self) -> bool:
        """True the first time: only one process sends a long burst, because the history stores every byte of it."""
        is_first = not self.is_told and self.user == "ann" and str(self.run).endswith(".1")
        self.is_told = self.is_told or is_first
        return is_first

    def begin_appointing(self) -> str:
        """The next agent to set as the default; "" if this person sets none or is already changing it."""
        if self.user != "ann" or self.is_appointing or not self.setting.agent:
            return ""
        self.is_appointing = True
        self.appointed = "none" if self.appointed == self.setting.agent else self.setting.agent
        return self.appointed

    def end_appointing(self) -> None:
        """Allow the next change of the default agent."""
        self.is_appointing = False

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run something concurrently."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def idle(self) -> None:
        """Wait until no operation is open, at most a minute; the checker reports those still open then."""
        deadline_ms = now_ms() + 60_000
        while self._tasks and now_ms() < deadline_ms:  # noqa: ASYNC110 - several things end, and any of them may begin another
            await asyncio.sleep(0.05)

    async def live(self, doings: Mapping[Callable[[Participant], Coroutine[Any, Any, None]], float]) -> None:
        """Perform these actions, a few at a time, until told to be quiet; the numbers are relative frequencies."""
        kinds, weights = list(doings), list(doings.values())
        while not self.setting.is_quiet:
            await asyncio.sleep(self.chance.expovariate(self.setting.rate_per_s))
            if len(self._tasks) < 6 and not self.setting.is_quiet:  # noqa: PLR2004
                doing = self.chance.choices(kinds, weights)[0]
                self.spawn(doing(self))
