"""The abusive user of `ops.bench.abuse`, in a process of its own: 50 times the limit of chat, whatever is answered.

`python -m ops.bench.abuser URL`; stdin has its token, then `go` and `stop` lines. At its end it prints as JSON what it met. While
it goes it reads answers without waiting for them, and comes back at once whenever it is closed, or refused at the door.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections import Counter
from typing import Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from hub.limits.rates import DEFAULT_RATES

TIMES_THE_LIMIT: Final = 50
TICK_S: Final = 0.01


async def opened(url: str, token: str) -> ClientConnection:
    """A socket that said who it is.

    Raises:
        ConnectionClosed, OSError: not let in.
    """
    found = await connect(url, compression=None)
    payload = {"token": token, "versions": [1]}
    await found.send(json.dumps({"type": "connection.init", "id": "i", "payload": payload}))
    while '"connection.ack"' not in str(await found.recv()):
        pass
    return found


class Abuser:
    """One user who does not listen."""

    def __init__(self, url: str, token: str) -> None:
        self._url, self._token = url, token
        self.met: Counter[str] = Counter()
        self.may_go = asyncio.Event()
        self.is_over = False

    async def run(self) -> None:
        """Attack whenever it may, until it is over."""
        while not self.is_over:
            await self.may_go.wait()
            try:
                socket = await opened(self._url, self._token)
            except (ConnectionClosed, OSError):
                self.met["not let in"] += 1
                await asyncio.sleep(TICK_S)
                continue
            await self._shout(socket)
            self.met["closed"] += 1
            await socket.close()

    async def _shout(self, socket: ClientConnection) -> None:
        reading = asyncio.create_task(self._count(socket))
        due, per_s = time.monotonic(), DEFAULT_RATES["chat"].per_s * TIMES_THE_LIMIT
        with contextlib.suppress(ConnectionClosed):
            while self.may_go.is_set() and not self.is_over:
                for _ in range(int(per_s * TICK_S)):
                    self.met["sent"] += 1
                    frame = {"type": "chat.message", "id": f"a{self.met['sent']}", "channel": "conversation:m"}
                    await socket.send(json.dumps(frame | {"payload": {"text": "x"}}))
                due += TICK_S
                await asyncio.sleep(max(0.0, due - time.monotonic()))
        await socket.close()
        await reading

    async def _count(self, socket: ClientConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for message in socket:
                text = str(message)
                is_refused = '"code":4004' in text
                self.met["refused" if is_refused else "stored" if '"message.received"' in text else "other"] += 1


async def main(url: str) -> None:
    """Obey stdin until it ends."""
    os.nice(
        5
    )  # it stands for a machine elsewhere: it must not take the processor from the polite, whose clock runs here
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    abuser = Abuser(url, (await reader.readline()).decode().strip())
    running = asyncio.create_task(abuser.run())
    while line := (await reader.readline()).strip():
        if line == b"go":
            abuser.may_go.set()
        else:
            abuser.may_go.clear()
    abuser.is_over = True
    abuser.may_go.set()
    await running
    print(json.dumps(abuser.met))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
