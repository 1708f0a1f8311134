"""One abusive user beside many polite ones, on one node: `python -m ops.bench.abuse [--polite 500] [--seconds 20]`.

The polite each say something every few seconds and wait for the answer. Their p99 is measured alone first, then while one user
sends at 50 times the limit, ignores every advice and comes back whenever it is closed. The node is a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import secrets
import socket
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from hub.middleware.auth_sign import sign
from hub.middleware.rate_classes import DEFAULT_RATES
from streams.redis.embedded import EmbeddedRedis

SECRET: Final = secrets.token_hex(32)
TIMES_THE_LIMIT: Final = 50
SAY_EVERY_S: Final = 2.5
TICK_S: Final = 0.01


def token(user: str) -> str:
    """Who may talk in conversations."""
    return sign(SECRET, user, "bench", {"conversation:*": ["read", "write"]}, 3_600, time.time())


@contextlib.asynccontextmanager
async def node() -> AsyncIterator[str]:
    """A node with the default limits, and its address."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        redis = EmbeddedRedis(Path(folder), unix_socket=Path(folder) / "s")
        env = os.environ | {
            "REDIS_URL": redis.start(),
            "HUB_JWT_SECRET": SECRET,
            "HUB_PORT": str(port),
            "HUB_DATA": folder,
        }
        command = "import asyncio,os,uvloop; from hub.config import Settings; from hub.server import serve; "
        command += "uvloop.run(serve(Settings.from_env(os.environ)))"
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", command, env=env)
        try:
            yield await _until_up(f"ws://127.0.0.1:{port}/ws")
        finally:
            process.terminate()
            await process.wait()
            redis.stop()


async def _until_up(url: str) -> str:
    for _ in range(300):
        with contextlib.suppress(OSError):
            async with connect(url):
                return url
        await asyncio.sleep(0.05)
    raise TimeoutError("the node did not come up")


async def opened(url: str, user: str) -> ClientConnection:
    """A socket that said who it is."""
    found = await connect(url, compression=None)
    await found.send(
        json.dumps({"type": "connection.init", "id": "i", "payload": {"token": token(user), "versions": [1]}})
    )
    while '"connection.ack"' not in str(await found.recv()):
        pass
    return found


async def polite(url: str, number: int, all_in: asyncio.Barrier, seconds: float, took_ms: list[float]) -> None:
    """Say something now and then, and wait for the answer each time."""
    async with await opened(url, f"p{number}") as found:
        await all_in.wait()
        until = time.monotonic() + seconds
        await asyncio.sleep(secrets.randbelow(2_500) / 1_000)
        count = 0
        while time.monotonic() < until:
            count += 1
            frame = {
                "type": "chat.message",
                "id": f"m{count}",
                "channel": f"conversation:{number}",
                "payload": {"text": "hi"},
            }
            began = time.perf_counter()
            await found.send(json.dumps(frame))
            while f'"re":"m{count}"' not in str(await found.recv()):
                pass
            took_ms.append((time.perf_counter() - began) * 1_000)
            await asyncio.sleep(SAY_EVERY_S)


async def abuse(url: str, all_in: asyncio.Barrier, seconds: float, seen: Counter[str]) -> None:
    """Fifty times the limit, whatever is answered."""
    await all_in.wait()
    until = time.monotonic() + seconds
    per_tick = int(DEFAULT_RATES["chat"].per_s * TIMES_THE_LIMIT * TICK_S)
    while time.monotonic() < until:
        try:
            found = await opened(url, "mallory")
        except (ConnectionClosed, OSError):
            seen["not let in"] += 1
            await asyncio.sleep(TICK_S)
            continue
        reading = asyncio.create_task(_count(found, seen))
        with contextlib.suppress(ConnectionClosed):
            while time.monotonic() < until:
                for _ in range(per_tick):
                    seen["sent"] += 1
                    frame = {
                        "type": "chat.message",
                        "id": f"a{seen['sent']}",
                        "channel": "conversation:m",
                        "payload": {"text": "x"},
                    }
                    await found.send(json.dumps(frame))
                await asyncio.sleep(TICK_S)
        await reading
        seen["closed"] += 1
        await found.close()


async def _count(found: ClientConnection, seen: Counter[str]) -> None:
    with contextlib.suppress(ConnectionClosed):
        async for message in found:
            seen[
                "stored"
                if '"message.received"' in str(message)
                else "refused"
                if '"code":4004' in str(message)
                else "other"
            ] += 1


async def measured(url: str, count: int, seconds: float, *, is_abused: bool) -> tuple[list[float], Counter[str]]:
    """Milliseconds of every polite answer, and what the abuser met."""
    took_ms: list[float] = []
    seen: Counter[str] = Counter()
    all_in = asyncio.Barrier(count + is_abused)  # nobody measures while the others connect
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(polite(url, number, all_in, seconds, took_ms))
        if is_abused:
            group.create_task(abuse(url, all_in, seconds, seen))
    return took_ms, seen


def p99(values: list[float]) -> float:
    """The 99th percentile."""
    return statistics.quantiles(values, n=100)[98]


async def run(count: int, seconds: float, rounds: int) -> None:
    """Alone and abused in turn, so that what else the machine does falls on both."""
    async with node() as url:
        alone: list[float] = []
        abused: list[float] = []
        seen: Counter[str] = Counter()
        for number in range(rounds):
            for is_abused, kept in ((False, alone), (True, abused)):
                took_ms, met = await measured(url, count, seconds, is_abused=is_abused)
                kept.extend(took_ms)
                seen.update(met)
                print(f"round {number + 1} {'abused' if is_abused else 'alone '}: {len(took_ms)} answers, "
                      f"p50 {statistics.median(took_ms):.2f} ms, p99 {p99(took_ms):.2f} ms", flush=True)  # fmt: skip
        print(f"alone  p50 {statistics.median(alone):.2f} ms, p99 {p99(alone):.2f} ms over {len(alone)} answers")
        print(f"abused p50 {statistics.median(abused):.2f} ms, p99 {p99(abused):.2f} ms over {len(abused)} answers")
        print(f"p99 changed by {(p99(abused) / p99(alone) - 1) * 100:+.0f} %; the abuser met {dict(seen)}")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--polite", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    asyncio.run(run(given.polite, given.seconds, given.rounds))


if __name__ == "__main__":
    main()
