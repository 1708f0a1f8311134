"""One abusive user beside many polite ones, on one node: `python -m ops.bench.abuse [--polite 500] [--windows 20] [--seconds 4]`.

The polite say something every few seconds and wait for the answer, without a pause between windows. Calm and attacked windows
alternate; in the attacked ones a process of its own sends as one user at 50 times the limit, ignores every advice and comes back
whenever it is closed. What else the machine does falls on both kinds alike. Told are the p99 over all answers of each kind, the
median of the windows' p99, and their ratio with a bootstrap interval over windows. It measures; `ops.bench.abuser` attacks.
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

from hub.auth.tokens import sign
from ops.bench.abuse_figures import Windows
from ops.bench.abuser import opened
from ops.embedded_redis.probe import free_port
from ops.embedded_redis.server import EmbeddedRedis

SAY_EVERY_S: Final = 1.0
WARM_UP_S: Final = 5.0
NODES_CORE: Final = frozenset({0})
"""The node has this core for itself; Redis, the polite and the abuser share the others, so that only the node is fought for."""
SETTLE_S: Final = 0.5
"""What is answered so long after a switch counts for neither side: the last of an attack is still being refused."""


def token(secret: str, user: str) -> str:
    """Who may talk in conversations."""
    return sign(secret, user, "bench", {"conversation:*": ["read", "write"]}, 86_400, time.time())


@dataclass(slots=True)
class Node:
    """A node with the default limits, in a process of its own."""

    url: str
    pid: int

    def cpu_s(self) -> float:
        """Processor time it has used (proc(5), stat)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.asynccontextmanager
async def node(secret: str) -> AsyncIterator[Node]:
    """Start it, and Redis beside it; stop both."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        redis = EmbeddedRedis(Path(folder), unix_socket=Path(folder) / "s")
        given = {"REDIS_URL": redis.start(), "HUB_JWT_SECRET": secret, "HUB_PORT": str(port), "HUB_DATA": folder}
        command = "import asyncio,os,uvloop; from hub.config import Settings; from hub.server import serve; "
        command += "uvloop.run(serve(Settings.from_env(os.environ)))"
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", command, env=os.environ | given)
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
    """Say something about once a second, and wait for the answer each time; until cancelled."""
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
    """The attacker's process: told to begin and to pause; says what it met at its end."""

    process: Process
    met: Counter[str] = field(default_factory=Counter)

    @classmethod
    async def start(cls, url: str, text: str) -> Attack:
        """Start it, calm."""
        command = (sys.executable, "-m", "ops.bench.abuser", url)
        process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
        attack = cls(process)
        await attack.say(text)
        return attack

    async def say(self, line: str) -> None:
        """`go` or `stop`."""
        if self.process.stdin is not None:
            self.process.stdin.write(line.encode() + b"\n")
            await self.process.stdin.drain()

    async def end(self) -> None:
        """Let it go, and learn what it met."""
        if self.process.stdin is not None:
            self.process.stdin.close()  # communicate() leaves it open when it has nothing to say
        out, _ = await self.process.communicate()
        self.met = Counter(json.loads(out or b"{}"))


async def alternate(hub: Node, attack: Attack, found: Windows, count: int, seconds: float) -> None:
    """Calm, attacked, calm, attacked …: `count` of each."""
    await asyncio.sleep(WARM_UP_S)
    for number in range(2 * count):
        is_attacked = number % 2 == 1
        await attack.say("go" if is_attacked else "stop")
        await asyncio.sleep(SETTLE_S)
        cpu_s, began = hub.cpu_s(), time.perf_counter()
        found.open(is_attacked, began)
        await asyncio.sleep(seconds)
        took_s = time.perf_counter() - began
        found.close((hub.cpu_s() - cpu_s) / took_s)
        print(found.last_line(), flush=True)


async def run(polite_count: int, count: int, seconds: float) -> None:
    """Everybody in, then window after window, then the figures."""
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
          f"load {', '.join(f'{load:.2f}' for load in os.getloadavg())} before", flush=True)  # fmt: skip
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
    print(f"the abuser met {dict(attack.met)}; load {', '.join(f'{load:.2f}' for load in os.getloadavg())} after")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--polite", type=int, default=500)
    parser.add_argument("--windows", type=int, default=20, help="calm ones, and as many attacked ones")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each")
    given = parser.parse_args()
    asyncio.run(run(given.polite, given.windows, given.seconds))


if __name__ == "__main__":
    main()
