"""A WebSocket connection of a simulated person: sends commands, follows channels, and records every message."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException
from websockets.typing import Subprotocol

from ops.torture.history import Recorder, now_ms

Json = dict[str, Any]
OPEN_TIMEOUT_S: Final = 6.0
ANSWER_S: Final = 8.0
RATE_LIMITED: Final = 4004
"""Error code: nothing was stored, and the command may be sent again later."""
_OPEN_CODES: Final = frozenset({4013, 4030})
"""Error codes after which it is unknown whether the event was stored."""
_LATER_CODES: Final = frozenset({RATE_LIMITED, *_OPEN_CODES})
"""Error codes after which a channel must be subscribed to again later."""


class SocketLost(Exception):
    """The connection was lost or could not be made."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of an operation: `ok` with the reply's payload, `fail`, or `unknown`."""

    kind: str
    payload: Json = field(default_factory=dict)
    code: int = 0


@dataclass(slots=True)
class HeldCursor:
    """A client's position in a channel, and the time at which it reached it."""

    id: str
    seq: int
    epoch: str
    since: float


@dataclass(frozen=True, slots=True)
class Self:
    """The person behind a connection, as named in its records."""

    tenant: str
    user: str
    node: str
    token: str


def pieces(text: str) -> Iterator[tuple[str, Json]]:
    """Split the data of a WebSocket message into the hub's messages; yields each with its own text."""
    if not text.startswith("["):
        yield text, json.loads(text)
        return
    yield from elements(text, 1)


_DECODER: Final = json.JSONDecoder()


def elements(text: str, at: int) -> Iterator[tuple[str, Json]]:
    """Split a JSON array, from the position after its bracket; yields each element with its own text."""
    while text[at] != "]":
        value, end = _DECODER.raw_decode(text, at)
        yield text[at:end], value
        at = end + (text[end] == ",")


def settled(recorder: Recorder, op: str, kind: str | None, payload: Json, *, is_open: bool = False) -> Outcome:
    """Record the hub's answer to an operation, and return the outcome.

    A refusal because of a rate limit is recorded as a failure, but returned as unknown, so that the operation is tried again.

    Args:
        recorder: records it.
        op: the operation.
        kind: the type of the reply; None if the answer is an error.
        payload: the payload of the reply or of the error.
        is_open: True if after an error of any code it is unknown whether the event was stored.
    """
    if kind is not None:
        recorder.write("ok", op=op, reply={"type": kind, "payload": payload})
        return Outcome("ok", payload)
    code = payload["code"]
    if is_open or code in _OPEN_CODES:
        recorder.write("unknown", op=op, why=str(code))
        return Outcome("unknown", code=code)
    recorder.write("fail", op=op, code=code)
    return Outcome("unknown" if code == RATE_LIMITED else "fail", code=code)


def begin_reader(recorder: Recorder, who: Self, via: str, channel: str, cursor: Json | None, **more: bool) -> str:
    """Record that a person subscribes to a channel; returns the reader's name."""
    reader = recorder.name()
    fields = dataclasses.asdict(who) | more
    recorder.write("subscribe", r=reader, p=recorder.process, **fields, via=via, channel=channel, cursor=cursor)
    return reader


class PersonSocket:
    """A socket after its handshake.

    Args:
        recorder: records what happens.
        who: the person.
        cursors: the client's positions, updated as events arrive.
    """

    def __init__(self, recorder: Recorder, who: Self, cursors: dict[str, HeldCursor]) -> None:
        self.who = who
        self.session_id = ""
        self.name = recorder.name()
        self.ended = asyncio.Event()
        self.close_code = 0
        self._recorder, self._cursors = recorder, cursors
        self._waiting: dict[str, asyncio.Future[Json]] = {}
        self._readers: dict[str, str] = {}
        self._socket: ClientConnection | None = None
        self._reading: asyncio.Task[None] | None = None
        self._refused_channels: list[str] = []
        self._asked: dict[tuple[str, str], str] = {}
        self._owed: dict[str, str] = {}
        self._places: dict[str, HeldCursor] = {}
        self._cut_off: dict[str, HeldCursor] = {}
        self._told: set[str] = set()

    async def open(
        self,
        url: str,
        token: str,
        *,
        resumes: dict[str, HeldCursor] | None = None,
        capabilities: list[str],
        client_id: str = "",
    ) -> None:
        """Connect and authenticate; with `resumes`, also resume these channels.

        Raises:
            SocketLost: the connection could not be made.
        """
        address = url.replace("http", "ws", 1) + "/ws"
        greeting: Json = {"token": token, "versions": [1], "capabilities": capabilities}
        if client_id:
            greeting["client_id"] = client_id
        inbox = f"user:{self.who.user}"
        if resumes is not None:
            greeting["cursors"] = {
                name: {"after": held.id, "seq": held.seq, "epoch": held.epoch} for name, held in resumes.items()
            }
        for channel in {inbox, *(resumes or {})}:
            self._begin(channel, resumes.get(channel) if resumes else None, {})
        kind = "connection.init" if resumes is None else "connection.reconnect"
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                self._socket = await connect(
                    address,
                    subprotocols=[Subprotocol("hub.v1.json")],
                    compression=None,
                    max_size=2**26,
                    ping_interval=None,
                    open_timeout=OPEN_TIMEOUT_S,
                    close_timeout=0.5,
                    proxy=None,
                )
                self._reading = asyncio.create_task(self._read())
                answer = await self._ask(kind, greeting, None, "hello")
        except (OSError, TimeoutError, WebSocketException, EOFError) as error:
            await self.close("never open", is_own=False)
            raise SocketLost(repr(error)) from error
        if answer["type"] != "connection.ack":
            await self.close(f"refused {answer['payload'].get('code')}", is_own=False)
            raise SocketLost(str(answer["payload"]))
        self.session_id = answer["payload"]["session_id"]

    async def subscribe(self, channels: dict[str, Json]) -> None:
        """Subscribe to channels; each value contains the options of the subscription.

        Raises:
            SocketLost: the connection was lost.
        """
        wishes, name = [], self._recorder.name()
        for channel, wish in channels.items():
            held = self._cursors.get(channel)
            is_behind = not {"after", "rewind"} & wish.keys() and held is not None
            cursor = {"after": held.id, "seq": held.seq, "epoch": held.epoch} if is_behind and held else {}
            self._asked[(name, channel)] = self._new_reader(channel, held if is_behind else None, wish)
            wishes.append({"channel": channel, **cursor, **wish})
        await self._ask("channel.subscribe", {"channels": wishes}, None, name)

    def take_refused(self) -> list[str]:
        """Return, and clear, the channels whose subscription failed for a temporary reason; they must be subscribed to again."""
        found, self._refused_channels = self._refused_channels, []
        return found

    async def unsubscribe(self, channel: str) -> None:
        """Unsubscribe from a channel.

        Raises:
            SocketLost: the connection was lost.
        """
        await self._ask("channel.unsubscribe", {"channels": [channel]}, None, self._recorder.name())

    def _begin(self, channel: str, held: HeldCursor | None, wish: Json) -> None:
        """Record a subscription that is active from now on."""
        self._readers[channel] = self._new_reader(channel, held, wish)

    def _taken_up(self, channel: str) -> None:
        """Record a subscription that the node restored by itself: it must continue where the one before it stopped."""
        self._begin(channel, self._cut_off.pop(channel, None), {"after": "?"})

    def _new_reader(self, channel: str, held: HeldCursor | None, wish: Json) -> str:
        """Record a request to subscribe. Until it is answered, events belong to the previous subscription."""
        cursor: Json | None = None
        if held is not None:
            cursor = {"after": held.id, "seq": held.seq, "since": held.since}
        elif {"after", "rewind"} & wish.keys():
            cursor = {name: wish[name] for name in ("after", "seq", "rewind") if name in wish}
        follows_presence = bool(wish.get("presence") and wish.get("state", True))
        is_there = not channel.startswith("user:")
        return begin_reader(
            self._recorder, self.who, "socket", channel, cursor, there=is_there, presence=follows_presence
        )

    def _end(self, channel: str, why: str, *, is_own: bool) -> None:
        reader = self._readers.pop(channel, None)
        if reader is not None:
            self._recorder.write("left", r=reader, why=why, is_own=is_own)

    async def command(self, kind: str, payload: Json, channel: str, command_id: str) -> Outcome:
        """Send a command; the command and its outcome are recorded."""
        return await self._operate(kind, kind, payload, channel, command_id, id=command_id, c=self.name)

    async def read(self, kind: str, wire: str, payload: Json, channel: str) -> Outcome:
        """Send a query (`channel.state`, `channel.history`), recorded as an operation of the type `kind`."""
        return await self._operate(kind, wire, payload, channel, self._recorder.name())

    async def _operate(self, kind: str, wire: str, payload: Json, channel: str, re: str, **more: str) -> Outcome:
        who = dataclasses.asdict(self.who)
        op = self._recorder.invoke(**who, via="socket", type=kind, channel=channel, payload=payload, **more)
        # For the checker only, not sent to the hub.
        asked = {name: value for name, value in payload.items() if name != "after_seq"}
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = await self._ask(wire, asked, channel, re)
        except (SocketLost, TimeoutError) as error:
            self._recorder.write("unknown", op=op, why=repr(error))
            return Outcome("unknown")
        if answer["type"] == "connection.error":
            return settled(self._recorder, op, None, answer["payload"])
        if kind == "read.page":
            answer = {**answer, "payload": self.page_of(answer["raw"], answer["payload"])}
        return settled(self._recorder, op, answer["type"], answer["payload"])

    def page_of(self, raw: str, payload: Json) -> Json:
        """A page of history in the form in which it is recorded: hashes in place of events."""
        found = elements(raw, raw.index('"events":[') + len('"events":['))
        entries = [[event["seq"], event["id"], self._recorder.bytes_of(text.encode())] for text, event in found]
        return {"e": entries, "gap": payload.get("gap"), "next": payload.get("next"), "n": len(raw.encode())}

    async def say(self, kind: str, payload: Json, channel: str | None = None) -> None:
        """Send a message that has no reply to record, such as a heartbeat or a typing indication.

        Raises:
            SocketLost: the connection was lost.
        """
        message = {"type": kind, "payload": payload} | ({"channel": channel} if channel else {})
        await self._send(message)

    async def ask(self, kind: str, payload: Json, channel: str | None = None) -> Json:
        """Send a query whose answer is not recorded, and return the answer.

        Raises:
            SocketLost: the connection was lost.
        """
        return await self._ask(kind, payload, channel, self._recorder.name())

    async def _ask(self, kind: str, payload: Json, channel: str | None, re: str) -> Json:
        answer: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._waiting[re] = answer
        try:
            await self._send({"type": kind, "id": re, "payload": payload} | ({"channel": channel} if channel else {}))
            return await answer
        finally:
            self._waiting.pop(re, None)

    async def _send(self, message: Json) -> None:
        if self._socket is None or self.ended.is_set():
            raise SocketLost("closed")
        try:
            await self._socket.send(json.dumps(message, ensure_ascii=False))
        except (OSError, WebSocketException) as error:
            raise SocketLost(repr(error)) from error

    def pause_reading(self) -> None:
        """Stop reading, so that the node has to buffer."""
        if self._socket is not None:
            self._socket.transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        if self._socket is not None and not self._socket.transport.is_closing():
            self._socket.transport.resume_reading()

    async def close(self, why: str, *, is_own: bool = True) -> None:
        """Close the connection: properly if `is_own`, otherwise as if it were lost."""
        if self._socket is not None:
            if is_own:
                with contextlib.suppress(OSError, TimeoutError, WebSocketException):
                    await self._socket.close()
            else:
                self._socket.transport.abort()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        self._lost(why, is_own=is_own)

    def _lost(self, why: str, *, is_own: bool) -> None:
        for channel in list(self._readers):
            self._end(channel, why, is_own=is_own)
        for reader in (*self._asked.values(), *self._owed.values()):
            self._recorder.write("left", r=reader, why=why, is_own=is_own)
        self._asked.clear()
        self._owed.clear()
        self.ended.set()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(SocketLost(why))

    async def _read(self) -> None:
        assert self._socket is not None  # noqa: S101 - it is read once it is open
        try:
            async for message in self._socket:
                text = message if isinstance(message, str) else message.decode()
                self._take(text)
        except (OSError, WebSocketException, EOFError):
            pass
        self.close_code = self._socket.close_code or 1006
        self._lost(f"closed {self.close_code}", is_own=False)

    def _take(self, text: str) -> None:
        """Process everything in one message: events grouped by channel, then the rest, each in order."""
        size, events = len(text.encode()), dict[str, list[Any]]()
        for raw, message in pieces(text):
            if "seq" in message:
                entry = [message["seq"], message["id"], self._recorder.bytes_of(raw.encode())]
                events.setdefault(message["channel"], []).append(entry)
                self._moved(message)
                continue
            self._flush(events, size)
            self._other(raw, message, size)
        self._flush(events, size)

    def _flush(self, events: dict[str, list[Any]], size: int) -> None:
        for channel, entries in events.items():
            reader = self._readers.get(channel)
            if reader is not None:
                self._recorder.write("got", r=reader, n=size, e=entries)
        events.clear()

    def _moved(self, event: Json) -> None:
        held = self._cursors.get(event["channel"])
        moved = HeldCursor(event["id"], event["seq"], held.epoch if held else "", now_ms())
        self._cursors[event["channel"]] = self._places[event["channel"]] = moved

    def _other(self, raw: str, message: Json, size: int) -> None:
        kind, channel, re = message["type"], message.get("channel", ""), message.get("re")
        if kind == "channel.subscribed":
            self._subscribed(channel, message["payload"], size, re)
        elif kind == "channel.resumed" and channel in self._readers:
            self._recorder.write("resumed", r=self._readers[channel], payload=message["payload"])
        elif kind == "channel.unsubscribed":
            self._end(channel, message["payload"]["reason"], is_own=message["payload"]["reason"] == "requested")
        elif kind == "connection.error":
            self._refused(channel, message["payload"], re)
            if re is None:
                self._recorder.write("note", p=self._recorder.process, what=message["payload"], channel=channel)
        elif re is None and channel in self._readers:
            self._recorder.write("signal", r=self._readers[channel], raw=raw)
        answer = self._waiting.get(re or "")
        if answer is not None and not answer.done():
            answer.set_result({**message, "raw": raw})

    def _refused(self, channel: str, error: Json, re: str | None) -> None:
        """Process an error for a channel: it is not followed until it is subscribed to again, or the node restores it by itself."""
        asked = self._asked.pop((re or "", channel), None)
        is_open = error["code"] in _LATER_CODES
        if asked is not None and is_open:
            self._let_go(channel)
            self._owed[channel] = asked
        elif asked is not None:
            self._recorder.write("left", r=asked, why=f"refused {error['code']}", is_own=False)
        elif re is not None or channel not in self._readers:
            return
        elif not is_open or self._readers[channel] in self._told:
            self._end(channel, f"refused {error['code']}", is_own=False)
            if is_open:
                self._cut_off[channel] = self._places[channel]
        if is_open:
            self._refused_channels.append(channel)

    def _let_go(self, channel: str) -> None:
        """Forget the subscription that the node was to restore: the channel is being subscribed to again."""
        owed = self._owed.pop(channel, None)
        if owed is not None:
            self._recorder.write("left", r=owed, why="asked again", is_own=True)

    def _subscribed(self, channel: str, payload: Json, size: int, re: str | None) -> None:
        asked = self._asked.pop((re or "", channel), None)
        if asked is not None:
            self._let_go(channel)
        else:
            asked = self._owed.pop(channel, None)
        if asked is not None:
            self._end(channel, "begun again", is_own=True)
            self._readers[channel] = asked
        elif channel not in self._readers:
            self._taken_up(channel)
        reader = self._readers[channel]
        self._told.add(reader)
        self._recorder.write("subscribed", r=reader, n=size, payload=payload)
        held = self._cursors.get(channel)
        head = payload["head"]
        start = head["seq"] - (0 if payload.get("gap") else payload.get("replay", 0))
        self._places[channel] = HeldCursor("", start, payload["epoch"], now_ms())
        if held is None or payload.get("gap") or not payload.get("recovered"):
            self._cursors[channel] = HeldCursor(head["id"], head["seq"], payload["epoch"], now_ms())
        else:
            self._cursors[channel] = dataclasses.replace(held, epoch=payload["epoch"])
