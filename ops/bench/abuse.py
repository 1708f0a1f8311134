"""Measures how one abusive user affects 500 polite ones on a node: `python -m ops.bench.abuse [--polite 500] [--windows 20]`.

The polite users each send a message every second and wait for the reply, throughout the run. Calm and attacked time windows
alternate. In an attacked window a separate process sends as one user at 50 times the limit, ignores retry advice and reconnects
whenever it is closed. Other load on the machine affects both kinds of window alike. The report has, for each kind, the p99 of
all replies and the median of the windows' p99, and the ratios between the kinds with bootstrap intervals.

The attacker runs as `python -m ops.bench.abuse --attack URL`. It reads its token and then lines with `go` or `stop` from stdin;
at the end of the input it prints its counts as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import secrets
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from hub.auth.signing import sign
from hub.limits.rates import DEFAULT_RATES
from ops.bench.abuse_figures import Windows
from ops.children import module, python
from ops.embedded_redis.probe import free_port
from ops.embedded_redis.server import EmbeddedRedis

SAY_EVERY_S: Final = 1.0
WARM_UP_S: Final = 5.0
NODES_CORE: Final = frozenset({0})
"""The CPU core reserved for the node; Redis, the polite users and the attacker share the others, so that only the node is
contended.
"""
TIMES_THE_LIMIT: Final = 50
"""Ratio of the attacker's message rate to the chat rate limit."""
TICK_S: Final = 0.01
SETTLE_S: Final = 0.5
"""Replies this soon after a switch between calm and attack are not counted, because the last attack messages are still being
refused.
"""


def token(secret: str, user: str) -> str:
    """Sign a token that may write in conversations."""
    return sign(secret, user, "bench", {"conversation:*": ["read", "write"]}, 86_400, time.time())


@dataclass(slots=True)
class Node:
    """A node with the default limits, in a separate process."""

    url: str
    pid: int

    def cpu_s(self) -> float:
        """The CPU time that the process has used (proc(5), stat)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.asynccontextmanager
async def node(secret: str) -> AsyncIterator[Node]:
    """Start a node with its own Redis, and stop both at the end of the block."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        redis = EmbeddedRedis(Path(folder), unix_socket=Path(folder) / "s")
        given = {"REDIS_URL": redis.start(), "HUB_JWT_SECRET": secret, "HUB_PORT": str(port), "HUB_DATA": folder}
        command = "import asyncio,os,uvloop; from hub.config import Settings; from hub.server import serve; "
        command += "uvloop.run(serve(Settings.from_env(os.environ)))"
        process = await asyncio.create_subprocess_exec(*python(command), env=os.environ | given)
        if len(NODES_CORE | os.sched_getaffinity(0)) > 1:
            os.sched_setaffinity(process.pid, NODES_CORE)
        try:
            url = f"ws://127.0.0.1:{port}/ws"
            await _until_up(url, token(secret, "first"))
            yield Node(url, process.pid)
        finally:
            process.terminate()
            await process.wait()
            redis.stop()


async def _until_up(url: str, text: str) -> None:
    for _ in range(600):
        with contextlib.suppress(OSError):
            await (await opened(url, text)).close()
            return
        await asyncio.sleep(0.05)
    raise TimeoutError("the node did not come up")


async def polite(url: str, secret: str, number: int, all_in: asyncio.Barrier, found: Windows) -> None:
    """Send a message about once a second and wait for each reply, until cancelled."""
    async with await opened(url, token(secret, f"p{number}")) as socket:
        await all_in.wait()
        await asyncio.sleep(secrets.randbelow(1_000) / 1_000 * SAY_EVERY_S)
        count = 0
        while True:
            count += 1
            frame = {"type": "chat.message", "id": f"m{count}", "channel": f"conversation:{number}"}
            began = time.perf_counter()
            await socket.send(json.dumps(frame | {"payload": {"text": "hi"}}))
            while f'"re":"m{count}"' not in str(await socket.recv()):
                pass
            found.add(began, (time.perf_counter() - began) * 1_000)
            await asyncio.sleep(SAY_EVERY_S)


@dataclass(slots=True)
class Attack:
    """The attacker's process: starts and pauses on command, and returns its counts at the end."""

    process: Process
    counts: Counter[str] = field(default_factory=Counter)

    @classmethod
    async def start(cls, url: str, text: str) -> Attack:
        """Start the process, paused."""
        command = module("ops.bench.abuse", "--attack", url)
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


async def alternate(hub: Node, attack: Attack, found: Windows, count: int, seconds: float) -> None:
    """Measure `count` calm and `count` attacked windows, alternating."""
    await asyncio.sleep(WARM_UP_S)
    for number in range(2 * count):
        is_attacked = number % 2 == 1
        await attack.command("go" if is_attacked else "stop")
        await asyncio.sleep(SETTLE_S)
        cpu_s, began = hub.cpu_s(), time.perf_counter()
        found.open(is_attacked, began)
        await asyncio.sleep(seconds)
        took_s = time.perf_counter() - began
        found.close((hub.cpu_s() - cpu_s) / took_s)
        print(found.last_line(), flush=True)


async def run(polite_count: int, count: int, seconds: float) -> None:
    """Connect the polite users and the attacker, measure calm and attacked windows in turns, and print the figures.

    Args:
        polite_count: the number of polite users.
        count: the number of windows of each kind.
        seconds: the length of each window.
    """
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"load {', '.join(f'{load:.2f}' for load in os.getloadavg())} before",
        flush=True,
    )
    found, secret = Windows(), secrets.token_hex(32)
    os.sched_setaffinity(0, os.sched_getaffinity(0) - NODES_CORE or NODES_CORE)
    async with node(secret) as hub:
        all_in = asyncio.Barrier(polite_count + 1)
        people = [asyncio.create_task(polite(hub.url, secret, number, all_in, found)) for number in range(polite_count)]
        attack = await Attack.start(hub.url, token(secret, "mallory"))
        try:
            await all_in.wait()
            await alternate(hub, attack, found, count, seconds)
        finally:
            await attack.end()
            for task in people:
                task.cancel()
            await asyncio.gather(*people, return_exceptions=True)
    print("\n".join(found.summary()))
    print(
        f"the attacker counted {dict(attack.counts)}; load {', '.join(f'{load:.2f}' for load in os.getloadavg())} after"
    )


async def opened(url: str, token: str) -> ClientConnection:
    """Open an authenticated socket.

    Raises:
        ConnectionClosed, OSError: the connection was refused.
    """
    found = await connect(url, compression=None)
    payload = {"token": token, "versions": [1]}
    await found.send(json.dumps({"type": "connection.init", "id": "i", "payload": payload}))
    while '"connection.ack"' not in str(await found.recv()):
        pass
    return found


class Attacker:
    """A user that ignores every reply."""

    def __init__(self, url: str, token: str) -> None:
        self._url, self._token = url, token
        self.counts: Counter[str] = Counter()
        self.is_attacking = asyncio.Event()
        self.is_over = False

    async def run(self) -> None:
        """Attack while `is_attacking` is set, until `is_over`."""
        while not self.is_over:
            await self.is_attacking.wait()
            try:
                socket = await opened(self._url, self._token)
            except (ConnectionClosed, OSError):
                self.counts["refused at connect"] += 1
                await asyncio.sleep(TICK_S)
                continue
            await self._flood(socket)
            self.counts["closed"] += 1
            await socket.close()

    async def _flood(self, socket: ClientConnection) -> None:
        reading = asyncio.create_task(self._count(socket))
        due, per_s = time.monotonic(), DEFAULT_RATES["chat"].per_s * TIMES_THE_LIMIT
        with contextlib.suppress(ConnectionClosed):
            while self.is_attacking.is_set() and not self.is_over:
                for _ in range(int(per_s * TICK_S)):
                    self.counts["sent"] += 1
                    frame = {"type": "chat.message", "id": f"a{self.counts['sent']}", "channel": "conversation:m"}
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
                self.counts["refused" if is_refused else "stored" if '"message.received"' in text else "other"] += 1


async def attack_from(url: str) -> None:
    """Attack as commanded on stdin, until the input ends."""
    os.nice(
        5
    )  # it stands for another machine: it must not take the processor from the polite users, whose clock runs here
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    attacker = Attacker(url, (await reader.readline()).decode().strip())
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


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--polite", type=int, default=500, help="number of polite users, who wait for each reply (default: %(default)s)"
    )
    parser.add_argument(
        "--windows", type=int, default=20, help="number of calm windows, and of attacked ones (default: %(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each window (default: %(default)s)")
    parser.add_argument("--attack", metavar="URL", help="internal: run as the attacker, with commands on stdin")
    given = parser.parse_args()
    if given.attack:
        asyncio.run(attack_from(given.attack))
    else:
        asyncio.run(run(given.polite, given.windows, given.seconds))


if __name__ == "__main__":
    main()
