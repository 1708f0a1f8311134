"""Streamed answers side by side: `python -m ops.bench.answers [--answers 200] [--deltas 100] [--every-ms 50]`.

One worker process and one reader, over an embedded Redis. Each agent notes when it gave a piece; the reader, which follows the live
lanes as a node's tail does, notes when it came. So the figures are the time over the agent's own, and what an answer costs in
Redis. Results are printed as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import AsyncGenerator
from multiprocessing.synchronize import Event as ProcessEvent
from pathlib import Path
from typing import Any

from consumers.agent import AgentInput, Back, Item
from consumers.context import Context
from consumers.registry import served
from consumers.worker import WorkerOptions, running
from streams.channel import Channel, parse_channel
from streams.cursor import Position
from streams.envelope import Actor, Draft, Entry
from streams.redis.embedded import EmbeddedRedis
from streams.redis.log import Log
from streams.runs import Invitation, opening

PIECE = "word word "


class Talker:
    """Gives a piece every so often; each begins with the time it was given."""

    def __init__(self, deltas: int, every_s: float) -> None:
        self._deltas, self._every_s = deltas, every_s

    async def run(self, ctx: Context, given: AgentInput) -> AsyncGenerator[Item, Back]:  # noqa: ARG002
        """Speak."""
        for _ in range(self._deltas):
            yield f"{time.time():.6f} {PIECE}"
            await asyncio.sleep(self._every_s)


class Follower:
    """What one channel's reader saw: seconds from the agent to here, of the first delta and of all."""

    def __init__(self) -> None:
        self.first_s: float | None = None
        self.all_s: list[float] = []
        self.deltas = 0
        self.ended = asyncio.Event()

    def events(self, entries: list[Entry]) -> None:
        """Tail: durable events."""
        if any(entry.type == b"agent.complete" for entry in entries):
            self.ended.set()

    def live(self, entries: list[Entry]) -> None:
        """Tail: deltas."""
        now_s = time.time()
        for entry in entries:
            self.deltas += 1
            given_s = float(entry.payload["delta"].partition(" ")[0])
            self.all_s.append(now_s - given_s)
            if self.first_s is None:
                self.first_s = now_s - given_s

    def broken(self) -> None:
        """Tail: cannot happen here."""
        raise AssertionError("the log broke under the benchmark")


def _work(url: str, deltas: int, every_s: float, stop: ProcessEvent, ready: ProcessEvent, spent: Any) -> None:
    async def main() -> None:
        options = WorkerOptions(redis_url=url, agents={"talker": served("talker", Talker(deltas, every_s))})
        async with running(options):
            ready.set()
            await asyncio.to_thread(stop.wait)
        usage = resource.getrusage(resource.RUSAGE_SELF)
        spent.put((usage.ru_utime + usage.ru_stime, usage.ru_maxrss))

    import uvloop

    uvloop.run(main())


async def measure(url: str, answers: int, ramp_s: float) -> dict[str, float]:
    """Ask for all answers within `ramp_s`, follow them, and sum up."""
    log = await Log.open(url)
    channels = [parse_channel("bench", f"conversation:c{number}") for number in range(answers)]
    followers = [Follower() for _ in channels]
    for channel, follower in zip(channels, followers, strict=True):
        log.tail.watch(channel, Position("0", 0), "0", follower)
    before = await log.redis.info("commandstats")
    began_s = time.perf_counter()
    for channel in channels:
        await _ask(log, channel)
        await asyncio.sleep(ramp_s / answers)
    await asyncio.gather(*(follower.ended.wait() for follower in followers))
    took_s = time.perf_counter() - began_s
    after = await log.redis.info("commandstats")
    deltas = sum(follower.deltas for follower in followers)
    durable = sum([await log.redis.xlen(log.keys.of(channel).stream) for channel in channels])
    memory = sum([await log.redis.memory_usage(log.keys.of(channel).stream) or 0 for channel in channels])
    await log.close()
    first = sorted(follower.first_s or 0.0 for follower in followers)
    every = sorted(one for follower in followers for one in follower.all_s)
    calls = sum(int(row["calls"]) for row in after.values()) - sum(int(row["calls"]) for row in before.values())
    return {
        "answers": answers, "took_s": round(took_s, 2),
        "first_delta_p50_ms": _at(first, 0.5), "first_delta_p99_ms": _at(first, 0.99),
        "delta_p50_ms": _at(every, 0.5), "delta_p99_ms": _at(every, 0.99), "deltas_per_answer": round(deltas / answers, 1),
        "durable_events_per_answer": round(durable / answers, 2), "durable_bytes_per_answer": round(memory / answers),
        "redis_calls_per_answer": round(calls / answers),
    }  # fmt: skip


async def _ask(log: Log, channel: Channel) -> None:
    guards = opening(channel, Invitation("talker", "bench", int(time.time() * 1000)))
    draft = Draft(channel, "chat.message", b'{"text":"go"}', Actor("user", "bench"), guards=guards, is_wanted=True)
    await log.append(draft)


def _at(sorted_s: list[float], part: float) -> float:
    return round(1000 * sorted_s[min(len(sorted_s) - 1, int(part * len(sorted_s)))], 1)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", type=int, default=200)
    parser.add_argument("--deltas", type=int, default=100)
    parser.add_argument("--every-ms", type=float, default=50)
    parser.add_argument("--ramp-s", type=float, default=2.0, help="over how long the questions are asked")
    chosen = parser.parse_args()
    start = multiprocessing.get_context("spawn")
    stop, ready, spent = start.Event(), start.Event(), start.Queue()
    with tempfile.TemporaryDirectory(prefix="hubbench-") as folder, EmbeddedRedis(Path(folder)) as redis:
        worker = start.Process(
            target=_work, args=(redis.url, chosen.deltas, chosen.every_ms / 1000, stop, ready, spent)
        )
        worker.start()
        ready.wait()
        try:
            figures = asyncio.run(measure(redis.url, chosen.answers, chosen.ramp_s))
        finally:
            stop.set()
        cpu_s, rss_kb = spent.get(timeout=30)
        worker.join()
    print(json.dumps(figures | {"worker_cpu_s": round(cpu_s, 2), "worker_rss_mb": round(rss_kb / 1024)}, indent=1))


if __name__ == "__main__":
    main()
