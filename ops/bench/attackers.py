"""Abusive users, one in each process: `python -m ops.bench.attackers flood|storm|reader URL CHANNEL`.

- `flood` sends messages to the channel at 50 times the limit and ignores retry advice;
- `storm` connects, subscribes to a hundred channels and resets the socket, several times at once, without pause;
- `reader` subscribes to the channel from its first event, again and again.

Each reconnects whenever it is closed. A process reads its token and then lines with `go` or `stop` from stdin; at the end of the
input it prints its counts as JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from abc import ABC, abstractmethod
from asyncio.subprocess import PIPE, Process
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from hub.limits.rates import DEFAULT_RATES
from ops.children import module

TIMES_THE_LIMIT: Final = 50
"""Ratio of the flood's message rate to the chat rate limit."""
TICK_S: Final = 0.01
STORM_SOCKETS: Final = 8
STORM_CHANNELS: Final = 100
_LOST: Final = (ConnectionClosed, InvalidHandshake, OSError, TimeoutError)


@dataclass(slots=True)
class Attack:
    """An attacker's process: starts and pauses on command, and returns its counts at the end."""

    process: Process
    counts: Counter[str] = field(default_factory=Counter)

    @classmethod
    async def start(cls, kind: str, url: str, text: str, channel: str) -> Attack:
        """Start the process, paused; `text` is its token."""
        command = module("ops.bench.attackers", kind, url, channel)
        process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
        attack = cls(process)
        await attack.command(text)
        return attack

    async def command(self, line: str) -> None:
        """Send the command `go` or `stop`."""
        if self.process.stdin is not None:
            self.process.stdin.write(line.encode() + b"\n")
            await self.process.stdin.drain()

    async def end(self) -> None:
        """End the process and read its counts."""
        if self.process.stdin is not None:
            self.process.stdin.close()  # communicate() leaves stdin open if it has no input
        out, _ = await self.process.communicate()
        self.counts = Counter(json.loads(out or b"{}"))


async def opened(url: str, token: str) -> ClientConnection:
    """Open an authenticated socket.

    Raises:
        ConnectionClosed, OSError: the connection was refused.
    """
    found = await connect(url, compression=None, max_size=None)
    payload = {"token": token, "versions": [1]}
    await found.send(json.dumps({"type": "connection.init", "id": "i", "payload": payload}))
    while '"connection.ack"' not in str(await found.recv()):
        pass
    return found


class Attacker(ABC):
    """A user that ignores every advice, on sockets of its own."""

    sockets: int = 1

    def __init__(self, url: str, token: str, channel: str) -> None:
        self._url, self._token, self._channel = url, token, channel
        self.counts: Counter[str] = Counter()
        self.is_attacking = asyncio.Event()
        self.is_over = False

    async def run(self) -> None:
        """Attack while `is_attacking` is set, until `is_over`."""
        await asyncio.gather(*(self._attack_again() for _ in range(self.sockets)))

    @property
    def is_on(self) -> bool:
        """True while it attacks."""
        return self.is_attacking.is_set() and not self.is_over

    async def _attack_again(self) -> None:
        while not self.is_over:
            await self.is_attacking.wait()
            try:
                socket = await opened(self._url, self._token)
            except _LOST:
                self.counts["refused at connect"] += 1
                await asyncio.sleep(TICK_S)
                continue
            with contextlib.suppress(*_LOST):
                await self.attack(socket)
            self.counts["closed"] += 1
            await socket.close()

    @abstractmethod
    async def attack(self, socket: ClientConnection) -> None:
        """Attack over one socket, until it is closed or the attack stops."""

    async def count_answers(self, socket: ClientConnection) -> None:
        """Count what the hub sends, until the socket closes."""
        with contextlib.suppress(ConnectionClosed):
            async for message in socket:
                text = str(message)
                is_refused = '"code":4004' in text
                self.counts["refused" if is_refused else "stored" if '"message.received"' in text else "other"] += 1


class MessageFlood(Attacker):
    """Sends messages."""

    async def attack(self, socket: ClientConnection) -> None:
        """Send at a steady rate."""
        reading = asyncio.create_task(self.count_answers(socket))
        due, per_s = time.monotonic(), DEFAULT_RATES["chat"].per_s * TIMES_THE_LIMIT
        with contextlib.suppress(ConnectionClosed):
            while self.is_on:
                for _ in range(int(per_s * TICK_S)):
                    self.counts["sent"] += 1
                    frame = {"type": "chat.message", "id": f"a{self.counts['sent']}", "channel": self._channel}
                    await socket.send(json.dumps(frame | {"payload": {"text": "x"}}))
                due += TICK_S
                await asyncio.sleep(max(0.0, due - time.monotonic()))
        await socket.close()
        await reading


class ConnectionStorm(Attacker):
    """Connects and subscribes."""

    sockets = STORM_SOCKETS

    async def attack(self, socket: ClientConnection) -> None:
        """Subscribe to a hundred channels, and leave after the first answer."""
        channels = [{"channel": f"{self._channel}{number}"} for number in range(STORM_CHANNELS)]
        await socket.send(json.dumps({"type": "channel.subscribe", "id": "s", "payload": {"channels": channels}}))
        await socket.recv()
        self.counts["storms"] += 1
        socket.transport.abort()


class LongReplays(Attacker):
    """Reads a long channel."""

    async def attack(self, socket: ClientConnection) -> None:
        """Subscribe from the first event, and once more after each receipt or refusal."""
        item = {"channel": self._channel, "after": "0"}
        frame = json.dumps({"type": "channel.subscribe", "id": "s", "payload": {"channels": [item]}})
        while self.is_on:
            await socket.send(frame)
            self.counts["subscribed"] += 1
            while self.is_on:
                text = str(await socket.recv())
                self.counts["messages"] += 1
                if '"channel.resumed"' in text:
                    break
                if '"code":4004' in text:
                    self.counts["refused"] += 1
                    break


KINDS: Final[dict[str, type[Attacker]]] = {"flood": MessageFlood, "storm": ConnectionStorm, "reader": LongReplays}


async def _attack_from(kind: str, url: str, channel: str) -> None:
    """Attack as commanded on stdin, until the input ends.

    An attacker stands for another machine, so it gets only the time that Redis and the generator leave idle. A nice value does
    not bring that about: Redis, once woken, waits until the attacker's slice of time is over.
    """
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    attacker = KINDS[kind](url, (await reader.readline()).decode().strip(), channel)
    running = asyncio.create_task(attacker.run())
    while line := (await reader.readline()).strip():
        if line == b"go":
            attacker.is_attacking.set()
        else:
            attacker.is_attacking.clear()
    attacker.is_over = True
    attacker.is_attacking.set()
    await running
    print(json.dumps(attacker.counts))


if __name__ == "__main__":
    asyncio.run(_attack_from(*sys.argv[1:]))
