"""Feeds messages to live connections of a hub in this process, and keeps count of what it answers."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter
from dataclasses import dataclass, field

from fuzz.frames import FrameSource
from hub.node.connection import Connection
from hub.node.hub import Hub
from hub.sockets import Upgrade
from hub.websocket.codec import TEXT, split_frames

RE = re.compile(rb'^\{"type":"[a-z.]+","re":"([^"]+)"')
CODE = re.compile(rb'"payload":\{"code":(\d{4})')
EVENT_ID = re.compile(rb'"(?:id|run_id|upload_id|message_id)":"([^"]{3,80})"')
BARRIER_EVERY = 50
ANSWERS_WITHIN_S = 60.0


@dataclass(slots=True)
class Tally:
    """Everything that was seen. A fault is a sentence with the message that brought it about."""

    frames: int = 0
    closes: Counter[int] = field(default_factory=Counter)
    codes: Counter[int] = field(default_factory=Counter)
    answers: int = 0
    faults: list[str] = field(default_factory=list)


class Sink:
    """A transport that looks at what the hub writes and keeps none of it."""

    def __init__(self, source: FrameSource, tally: Tally) -> None:
        self._source, self._tally = source, tally
        self.is_writable = True
        self.is_deflate = False
        self.close_code: int | None = None
        self.may_write = asyncio.Event()
        self.may_write.set()
        self.answered: Counter[str] = Counter()
        self._wanted: tuple[str, asyncio.Event] | None = None

    def write(self, frames: bytes, /) -> None:
        """Count answers and codes; learn ids."""
        for opcode, payload in split_frames(frames):
            if opcode == TEXT:
                self._look(payload)

    def _look(self, payload: bytes) -> None:
        head = payload[:400]
        if (code := CODE.search(head)) is not None:
            self._tally.codes[int(code[1])] += 1
        elif (known := EVENT_ID.search(head)) is not None:
            self._source.learn(known[1].decode())
        if (found := RE.match(head)) is not None:
            self._tally.answers += 1
            re_id = found[1].decode()
            self.answered[re_id] += 1
            if self._wanted is not None and re_id == self._wanted[0]:
                self._wanted[1].set()

    async def answer_to(self, id_: str) -> None:
        """Until this id is answered, or the socket closed."""
        if self.answered[id_] or self.close_code is not None:
            return
        self._wanted = (id_, asyncio.Event())
        async with asyncio.timeout(ANSWERS_WITHIN_S):
            await self._wanted[1].wait()

    def close(self, code: int = 1000, reason: str = "") -> None:
        """The hub ended it."""
        if self.close_code is None:
            self.close_code = code
            if self._wanted is not None:
                self._wanted[1].set()
            self.may_write.set()

    def abort(self) -> None:
        """The hub cut it."""
        self.close(1006)

    def trust(self) -> None:
        """Messages of any size come from here."""

    def pause_reading(self) -> None:
        """The hub has enough for now."""
        self.may_write.clear()

    def resume_reading(self) -> None:
        """Go on."""
        self.may_write.set()


class Fuzzed:
    """One connection, from its handshake to its end."""

    def __init__(self, hub: Hub, source: FrameSource, tally: Tally) -> None:
        self.sink, self._tally, self._source = Sink(source, tally), tally, source
        self.connection: Connection = hub.connect()
        self._owed: dict[str, int] = {}
        self._sent: dict[str, bytes] = {}
        self._barriers = 0

    async def open(self, token: str) -> None:
        """Say who it is."""
        self.connection.opened(self.sink, Upgrade("/ws", "", {}, ("127.0.0.1", 1), None))
        hello = b'{"type":"connection.init","id":"hello","payload":{"token":"%b","versions":[1]}}' % token.encode()
        self.connection.text(hello)
        await self.sink.answer_to("hello")

    async def feed(self, data: bytes, owed: dict[str, int]) -> None:
        """One message, as soon as the hub takes it."""
        await self.sink.may_write.wait()
        for id_, most in owed.items():
            self._owed[id_] = self._owed.get(id_, 0) + most
            self._sent[id_] = data
        self._tally.frames += 1
        try:
            data.decode()  # the wire closes with 1007 before the hub sees anything else
            self.connection.text(data)
        except UnicodeDecodeError:
            return
        except Exception as error:
            self._tally.faults.append(f"{error!r} out of {data[:2_000]!r}")

    async def barrier(self) -> None:
        """Until everything fed before is answered, but for what is still on its way to the log."""
        self._barriers += 1
        id_ = f"b{self._barriers}"
        self.connection.text(b'{"type":"connection.heartbeat","id":"%b"}' % id_.encode())
        try:
            await self.sink.answer_to(id_)
        except TimeoutError:
            self._tally.faults.append("the hub does not answer any more")
            self.sink.close(1006)

    async def end(self) -> None:
        """Hold what was answered against what was owed, and leave."""
        if self.sink.close_code is None:
            await self.barrier()
            async with asyncio.timeout(ANSWERS_WITHIN_S):
                await self.connection._settled()
            self.connection.flush()
            await asyncio.sleep(0)
        if self.sink.close_code is None:
            for id_, most in self._owed.items():
                await self._late(id_)
                if not 1 <= self.sink.answered[id_] <= most:
                    times = f"{id_} was answered {self.sink.answered[id_]} times, not 1 to {most}"
                    self._tally.faults.append(f"{times}: {self._sent[id_][:2_000]!r}")
        else:
            self._tally.closes[self.sink.close_code] += 1
        self.connection.closed(1000)

    async def _late(self, id_: str) -> None:
        """Chunks are answered from their upload's lane, behind the barrier perhaps."""
        with contextlib.suppress(TimeoutError):
            await self.sink.answer_to(id_)


async def fuzz_hub(hub: Hub, source: FrameSource, token: str, count: int, life: int = 2_000) -> Tally:
    """Feed `count` messages, on connections that live for `life` messages at most."""
    tally = Tally()
    while tally.frames < count and not tally.faults:
        fuzzed = Fuzzed(hub, source, tally)
        await fuzzed.open(token)
        for number in range(1, min(life, count - tally.frames) + 1):
            message = source.message()
            await fuzzed.feed(*message)
            if number % BARRIER_EVERY == 0:
                await fuzzed.barrier()
            if fuzzed.sink.close_code is not None or tally.faults:
                break
        with contextlib.suppress(TimeoutError):
            await fuzzed.end()
    if tally.codes[4030]:
        tally.faults.append("an internal error; the log above has its traceback")
    return tally
