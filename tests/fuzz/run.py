"""Fuzz by hand: `python tests/fuzz/run.py --frames 1000000` on a hub in this process, or `--url ws://… --token …` on a live node.

Says what it sent, how fast, every code it met, how memory grew, and every fault with the message that brought it about.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from websockets.asyncio.client import ClientConnection, connect  # noqa: E402  # behind the path
from websockets.exceptions import ConnectionClosed  # noqa: E402

from fuzz.agents import EveryAgent  # noqa: E402
from fuzz.frames import FrameSource  # noqa: E402
from fuzz.inside import BARRIER_EVERY, CODE, EVENT_ID, RE, Tally, fuzz_hub  # noqa: E402
from hub.app import open_hub  # noqa: E402
from support.nodes import settings, token  # noqa: E402
from support.redis_server import RedisServer  # noqa: E402

ROUND = 50_000


def resident_mb() -> float:
    """Memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4_096 / 1_048_576


async def inside(frames: int, seed: int) -> int:
    """A hub in this process on a Redis of its own; memory is told after each round."""
    server = RedisServer()
    total, began = Tally(), time.monotonic()
    try:
        with tempfile.TemporaryDirectory() as folder:
            async with open_hub(settings(server.url, data_dir=folder)) as hub:
                hub.agents = EveryAgent()
                text = token("fuzz", "fuzz", ttl_s=86_400)
                while total.frames < frames and not total.faults:
                    source = FrameSource(seed, text)
                    add(total, await fuzz_hub(hub, source, text, min(ROUND, frames - total.frames)))
                    tell(
                        total,
                        began,
                        f"seed {seed}, {resident_mb():.0f} MB resident, {hub.limiter.bucket_count()} buckets",
                    )
                    seed += 1
    finally:
        server.close()
    return len(total.faults)


async def outside(url: str, text: str, frames: int, seed: int) -> int:
    """A live node: everything goes through its real wire. Connections that are closed are opened again."""
    total, began = Tally(), time.monotonic()
    source, told = FrameSource(seed, text), 0
    while total.frames < frames and not total.faults:
        async with connect(url, compression=None, max_size=None) as socket:
            hello = {"type": "connection.init", "id": "hello", "payload": {"token": text, "versions": [1]}}
            await socket.send(json.dumps(hello))
            answered: asyncio.Queue[str] = asyncio.Queue()
            reading = asyncio.create_task(read(socket, source, total, answered))
            try:
                for number in range(1, min(5_000, frames - total.frames) + 1):
                    await socket.send(source.message().data, text=True)
                    total.frames += 1
                    if number % BARRIER_EVERY == 0:
                        await socket.send('{"type":"connection.heartbeat","id":"barrier%d"}' % number)  # noqa: UP031
                        async with asyncio.timeout(60):
                            await answered.get()
            except ConnectionClosed as closed:
                total.closes[closed.rcvd.code if closed.rcvd else 1006] += 1
            except TimeoutError:
                total.faults.append("the node does not answer any more")
            reading.cancel()
        if total.frames >= told + ROUND:
            told = total.frames
            tell(total, began, "live")
    tell(total, began, "live, done")
    return len(total.faults)


async def read(socket: ClientConnection, source: FrameSource, total: Tally, answered: asyncio.Queue[str]) -> None:
    """Count what comes back; barriers, and the end, are told."""
    try:
        async for message in socket:
            head = message[:400].encode() if isinstance(message, str) else message[:400]
            if (code := CODE.search(head)) is not None:
                total.codes[int(code[1])] += 1
                if code[1] == b"4030":
                    total.faults.append(f"internal error: {head!r}")
            elif (known := EVENT_ID.search(head)) is not None:
                source.learn(known[1].decode())
            if (found := RE.match(head)) is not None:
                total.answers += 1
                if found[1].startswith(b"barrier"):
                    answered.put_nowait(found[1].decode())
    except ConnectionClosed:
        return
    finally:
        answered.put_nowait("closed")


def add(total: Tally, more: Tally) -> None:
    """One round more."""
    total.frames += more.frames
    total.answers += more.answers
    total.codes.update(more.codes)
    total.closes.update(more.closes)
    total.faults.extend(more.faults)


def tell(total: Tally, began: float, about: str) -> None:
    """One line of progress, and the faults."""
    took_s = time.monotonic() - began
    shown = " ".join(f"{code}:{count}" for code, count in sorted(Counter(total.codes).items()))
    print(f"{total.frames} frames, {total.frames / took_s:.0f}/s, {total.answers} answers; {about}", flush=True)
    print(f"  codes {shown}; closes {dict(total.closes)}", flush=True)
    for fault in total.faults[:10]:
        print(f"  FAULT {fault}", flush=True)


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--url", help="ws://host:port/ws of a live node; without it a hub in this process")
    parser.add_argument("--token", default="")
    given = parser.parse_args()
    if given.url:
        return asyncio.run(outside(given.url, given.token, given.frames, given.seed))
    return asyncio.run(inside(given.frames, given.seed))


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
