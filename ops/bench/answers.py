"""Latency and cost of streamed answers: `python -m ops.bench.answers --help`.

Starts a Redis, a node and a worker, and opens a socket and a conversation for each answer. The agent's first word, sent at
once, is the current time (CLOCK_MONOTONIC, which all processes of a machine share), so the hub's share of the latency can be
separated from the agent's. While an answer runs, received bytes are only stored; they are parsed and checked afterwards.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import secrets
import subprocess
import tempfile
import time
from bisect import bisect_left
from collections.abc import AsyncGenerator, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from consumers.agents import AgentInput, Context, Item
from hub.auth.signing import sign
from ops.bench.load_client import LoadSocket, connect_many, line
from ops.bench.peers.peer import BenchNode
from ops.bench.processes import commit, machine, used_by
from ops.children import NodeProcess, hub
from ops.embedded_redis.server import EmbeddedRedis
from streams.channel import parse_channel
from streams.redis.log import Log
from streams.redis.server_check import count_commands

TENANT: Final = "bench"
_WITHIN_S: Final = 120.0
_DONE: Final = b'"type":"agent.complete"'
_TWO_BYTES: Final = 126
_EIGHT_BYTES: Final = 127


async def agent(ctx: Context, given: AgentInput) -> AsyncGenerator[Item, None]:  # noqa: ARG001 - what an agent takes
    """Streams the current time, then word after word; the question contains their number and the interval in milliseconds."""
    count, pace_ms = (int(word) for word in given.text.split())
    yield f"{time.monotonic_ns()} "
    for number in range(1, count):
        await asyncio.sleep(pace_ms / 1000)
        yield f"word{number} "


@dataclass(frozen=True, slots=True)
class Load:
    """The load: `answers` of `words` each, one word every `pace_ms` milliseconds, started evenly over `ramp_s` seconds."""

    answers: int
    words: int
    pace_ms: int
    ramp_s: float


class Received:
    """The bytes that a socket receives, with their times.

    Attributes:
        over: set once an `agent.complete` has arrived.
    """

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._ends: list[int] = []
        self._times_s: list[float] = []
        self._last = b""
        self.over = asyncio.Event()

    def take(self, data: bytes) -> None:
        """Store a piece of data; it may begin or end within a frame."""
        self._pieces.append(data)
        self._ends.append((self._ends[-1] if self._ends else 0) + len(data))
        self._times_s.append(time.monotonic())
        if _DONE in self._last + data:
            self.over.set()
        self._last = data[-len(_DONE) :]

    def deltas(self) -> list[tuple[float, dict[str, Any]]]:
        """The answer's deltas, each with the time at which it was complete (CLOCK_MONOTONIC, seconds)."""
        return [(at_s, f["payload"]) for at_s, f in self._frames() if f["type"] == "assistant.message.delta"]

    def ended_text(self) -> str:
        """The concatenated texts of the ended messages."""
        return "".join(f["payload"]["text"] for _, f in self._frames() if f["type"] == "assistant.message.end")

    def _frames(self) -> Iterator[tuple[float, dict[str, Any]]]:
        """Parse the server's text frames, which are never masked or fragmented (RFC 6455, 5.2)."""
        data, at = b"".join(self._pieces), 0
        while at < len(data):
            size, start = data[at + 1], at + 2
            if size == _TWO_BYTES:
                size, start = int.from_bytes(data[start : start + 2], "big"), start + 2
            elif size == _EIGHT_BYTES:
                size, start = int.from_bytes(data[start : start + 8], "big"), start + 8
            at = start + size
            yield self._times_s[bisect_left(self._ends, at)], json.loads(data[start:at])


@dataclass(slots=True)
class TimedAnswer:
    """One answer: the time of its question, and the bytes that its socket received."""

    channel: str
    received: Received
    asked_s: float = 0.0


class AnswerBench:
    """One run of the benchmark, over processes that are already running."""

    def __init__(self, log: Log, node: BenchNode, worker_pid: int, redis_pid: int, token: str, load: Load) -> None:
        self._log, self._node, self._token, self._load = log, node, token, load
        self._pids = {"node": node.pid, "worker": worker_pid, "redis": redis_pid}

    async def run(self) -> dict[str, Any]:
        """Warm up with one answer, then measure all of them."""
        await self._answers("warm", Load(1, 3, 1, 0))
        before, cpu_s, began_s = await self._added(), self._cpu_s(), time.perf_counter()
        answers = await self._answers("a", self._load)
        took_s = time.perf_counter() - began_s
        spent = {name: self._cpu_s()[name] - cpu_s[name] for name in cpu_s}
        figures = self._figures(answers)
        figures["redis_entries_per_answer"] = round(((await self._added()) - before) / len(answers), 1)
        figures |= await self._lanes(answers)
        figures |= {f"{name}_cpu_percent": round(100 * used_s / took_s) for name, used_s in spent.items()}
        return figures

    async def _answers(self, name: str, load: Load) -> list[TimedAnswer]:
        """Ask all questions, and wait until every answer has ended."""
        channels = [f"conversation:{name}{number}" for number in range(load.answers)]
        sockets = await connect_many(self._node.port, self._token, channels)
        answers = [TimedAnswer(channel, Received()) for channel in channels]
        waits: list[Coroutine[Any, Any, None]] = []
        for socket, answer in zip(sockets, answers, strict=True):
            socket.listen(answer.received.take)
            waits.append(self._ask(socket, answer, load, load.ramp_s * len(waits) / load.answers))
        async with asyncio.timeout(_WITHIN_S + load.ramp_s):
            await asyncio.gather(*waits)
        for socket in sockets:
            socket.abort()
        return answers

    async def _ask(self, socket: LoadSocket, answer: TimedAnswer, load: Load, after_s: float) -> None:
        await asyncio.sleep(after_s)
        payload = {"text": f"{load.words} {load.pace_ms}", "agent": "bench"}
        frame = line("chat.message", f"q-{answer.channel}", payload, answer.channel)
        answer.asked_s = time.monotonic()
        socket.send(frame)
        await answer.received.over.wait()

    def _figures(self, answers: Sequence[TimedAnswer]) -> dict[str, object]:
        totals, befores, afters, counts = [], [], [], []
        for answer in answers:
            deltas = answer.received.deltas()
            text = "".join(delta["delta"] for _, delta in deltas)
            if text != answer.received.ended_text() or len(text.split()) != self._load.words:
                raise AssertionError(f"{answer.channel}: the deltas are not the text of the end")
            first_s, agent_s = deltas[0][0], int(text.split()[0]) / 1e9
            totals.append((first_s - answer.asked_s) * 1000)
            befores.append((agent_s - answer.asked_s) * 1000)
            afters.append((first_s - agent_s) * 1000)
            counts.append(len(deltas))
        return {
            "question_to_first_delta_ms": _spread(totals),
            "question_to_agent_ms": _spread(befores),
            "agent_to_first_delta_ms": _spread(afters),
            "deltas_per_answer": round(sum(counts) / len(counts), 1),
        }

    async def _lanes(self, answers: Sequence[TimedAnswer]) -> dict[str, object]:
        """Number of entries in the two lanes of the channels afterwards."""
        events = live = 0
        for answer in answers:
            channel = parse_channel(TENANT, answer.channel)
            events += (await self._log.look(channel)).head.seq
            live += len(await self._log.replay.live_entries(channel))
        return {"events_per_answer": events / len(answers), "live_entries_kept_per_answer": live / len(answers)}

    async def _added(self) -> int:
        """Number of stream entries added so far: events, deltas, bells and work together."""
        return (await count_commands(self._log.servers.by_partition[0].calls))["xadd"]

    def _cpu_s(self) -> dict[str, float]:
        return {name: used_by(pid).cpu_s for name, pid in self._pids.items()}


def _spread(values: Sequence[float]) -> dict[str, float]:
    """Median, 99th percentile and maximum."""
    found = sorted(values)
    return {
        "p50": round(found[len(found) // 2], 1),
        "p99": round(found[int(len(found) * 0.99)], 1),
        "max": round(found[-1], 1),
    }


async def measure(load: Load) -> dict[str, object]:
    """Start all processes, measure, and stop them."""
    secret = secrets.token_hex(24)
    token = sign(secret, "bench", TENANT, {"*": ["*"]}, 86_400, time.time())
    facts: dict[str, object] = {"commit": commit(), "machine": machine(), "load_average": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as folder, EmbeddedRedis(folder) as redis:
        node = NodeProcess(redis.url, secret, HUB_DATA=folder)
        try:
            node.start()
            await node.ready()
            async with answering(redis.url, folder) as worker_pid:
                found = await answer_all(redis.url, node, worker_pid, redis.pid, token, load)
        finally:
            node.kill()
    return facts | {"answers": load.answers, "words": load.words, "pace_ms": load.pace_ms} | found


@contextlib.asynccontextmanager
async def answering(redis_url: str, folder: str) -> AsyncGenerator[int]:
    """Run a worker with the agent of this module, and yield its process ID.

    Raises:
        RuntimeError: it did not start.
    """
    worker = _worker(redis_url, folder)
    try:
        await asyncio.to_thread(_until_up, worker)
        yield worker.pid
    finally:
        worker.kill()
        worker.communicate()


async def answer_all(
    redis_url: str, node: BenchNode, worker_pid: int, redis_pid: int, token: str, load: Load
) -> dict[str, Any]:
    """Measure one load on processes that are running."""
    log = await Log.open(redis_url)
    try:
        return await AnswerBench(log, node, worker_pid, redis_pid, token, load).run()
    finally:
        await log.close()


def _worker(redis_url: str, folder: str) -> subprocess.Popen[bytes]:
    env = os.environ | {"REDIS_URL": redis_url, "HUB_AGENTS": "bench=ops.bench.answers:agent", "HUB_DATA": folder}
    return subprocess.Popen(hub("worker"), env=env, stdout=subprocess.PIPE)


def _until_up(worker: subprocess.Popen[bytes]) -> None:
    if worker.stdout is None or b"is up" not in worker.stdout.readline():
        raise RuntimeError("the worker did not start; the lines above say why")


def arguments() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m ops.bench.answers",
        description="Measure streamed answers: one Redis, one node, one worker, started for this and ended afterwards. "
        "Prints one JSON object. question_to_first_delta_ms is what a person waits beyond the agent's own time, which is "
        "zero here; agent_to_first_delta_ms is the part after the agent's first word; redis_entries_per_answer counts "
        "every stream entry: events, joined deltas, bells, work.",
        epilog="Try it:  python -m ops.bench.answers   and, for all questions in one instant:  "
        "python -m ops.bench.answers --ramp 0",
    )
    parser.add_argument("--answers", type=int, default=200, help="answers at the same time (default: %(default)s)")
    parser.add_argument("--words", type=int, default=100, help="pieces of text in each (default: %(default)s)")
    parser.add_argument("--pace-ms", type=int, default=50, help="milliseconds between pieces (default: %(default)s)")
    parser.add_argument(
        "--ramp",
        type=float,
        default=4.0,
        metavar="SECONDS",
        help="over which the questions are spread; should be less than an answer lasts, so that all overlap "
        "(default: %(default)s)",
    )
    return parser


def main(given: Sequence[str] | None = None) -> None:
    """Measure and print the results."""
    options: Any = arguments().parse_args(given)
    load = Load(options.answers, options.words, options.pace_ms, options.ramp)
    print(json.dumps(asyncio.run(measure(load)), indent=2))


if __name__ == "__main__":
    main()
