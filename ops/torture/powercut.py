"""Simulates power cuts: an event acknowledged as `fsync` must be on the disk when its acknowledgement arrives.

Redis runs with the shim library, which records the length of the append-only file before each fdatasync. For every
acknowledgement, the event must end within the length covered by the last fdatasync that returned before the acknowledgement
arrived (a cut on paper). Then copies of the file are actually cut at random moments, and a Redis started on each must have
every event acknowledged until then.
"""

from __future__ import annotations

import asyncio
import bisect
import json
import mmap
import random
import re
import shutil
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from ops.torture.cluster import SECRET, Cluster
from ops.torture.people import sign
from ops.torture.resp import Resp
from ops.torture.servers import RedisChild, build_shim

BATCH: Final = 20
WINDOW: Final = 3
"""Number of unanswered batches per connection. A node handles a connection's events one after the other, so many connections
are used.
"""
CONNECTIONS: Final = 200
CHANNELS: Final = 16
CUTS: Final = 3
_EXEC: Final = re.compile(rb"\r\nEXEC\r\n")
_EVENT: Final = re.compile(
    rb"\r\nXADD\r\n\$\d+\r\nhub:\{[^}]*\}:power:conversation:(\d+)\r\n(?:\$\d+\r\nNOMKSTREAM\r\n)?\$\d+\r\n(\d+-\d+)\r\n"
)


@dataclass(slots=True)
class PowerReport:
    """The result of a simulation. `lost` describes the first few events that would not have survived."""

    acknowledged: int = 0
    cut_in_thought: int = 0
    cut_in_fact: int = 0
    restarted_with: list[int] = field(default_factory=list)
    syncs: int = 0
    lost: list[str] = field(default_factory=list)
    lost_count: int = 0
    seconds: float = 0.0
    version: str = ""

    def lose(self, what: str) -> None:
        """Record a lost event."""
        self.lost_count += 1
        if len(self.lost) < 20:  # noqa: PLR2004
            self.lost.append(what)

    def to_json(self) -> dict[str, Any]:
        """The report as plain data."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(slots=True)
class Answered:
    """The acknowledgements received from one Redis process: (time in ns, channel, ID), in order of arrival."""

    rows: list[tuple[int, str, str]] = field(default_factory=list)


async def simulate(binary: Path, folder: Path, events: int, lives: int, tell: Callable[[str], None]) -> PowerReport:
    """Publish `events` events to several successive Redis processes, each ended by a simulated power cut.

    Raises:
        RuntimeError: this machine has no C compiler, or an event was refused.
    """
    if build_shim(folder) is None:
        raise RuntimeError("the simulation needs a C compiler: fdatasync cannot be watched without one")
    report, begun, chance = PowerReport(), time.monotonic(), random.Random(1)
    for life in range(lives):
        tell(f"life {life + 1} of {lives}: {report.acknowledged:,} events acknowledged, {report.lost_count} lost")
        await _live(binary, folder / f"life{life}", events // lives, report, chance)
        shutil.rmtree(folder / f"life{life}", ignore_errors=True)
    report.seconds = round(time.monotonic() - begun, 1)
    return report


async def _live(binary: Path, folder: Path, events: int, report: PowerReport, chance: random.Random) -> None:
    syncs = folder / "syncs"
    folder.mkdir(parents=True)  # noqa: ASYNC240 - before anything runs
    cluster = Cluster(
        folder,
        binary,
        nodes_count=1,
        workers_count=0,
        uses_small_disk=False,
        heartbeat_s="600",
        redis_env={"TORTURE_SYNC": str(syncs)},
    )
    answered = Answered()
    try:
        await cluster.start()
        # Directly to the node, because no link faults are injected here.
        url = f"http://127.0.0.1:{cluster.nodes[0].front.target}"
        await asyncio.gather(*(_publish(url, number, events // CONNECTIONS, answered) for number in range(CONNECTIONS)))
    finally:
        redis_folder = cluster.servers[0].folder if cluster.servers else folder
        await cluster.stop()  # SIGKILL: unsynced data is still in the file, and is cut off below
    aof = next(iter(sorted(redis_folder.rglob("*.incr.aof")) or sorted(redis_folder.glob("appendonly.aof"))))
    await asyncio.to_thread(_compare, aof, syncs, answered, report)
    await _cut(binary, redis_folder, aof, syncs, answered, report, chance)


async def _publish(url: str, number: int, events: int, answered: Answered) -> None:
    """Publish messages in batches, with up to `WINDOW` batches in flight."""
    channel = f"conversation:{number % CHANNELS}"
    token = sign(SECRET, f"user{number}", "power", f"t{number}", 86_400)
    async with connect(
        url.replace("http", "ws", 1) + "/ws",
        subprotocols=[Subprotocol("hub.v1.json")],
        compression=None,
        max_size=2**26,
        ping_interval=None,
        proxy=None,
    ) as socket:
        hello = {
            "type": "connection.init",
            "id": "hello",
            "payload": {"token": token, "versions": [1], "capabilities": ["batch"]},
        }
        await socket.send(json.dumps(hello))
        sent = got = 0
        while got < events:
            while sent < events and sent - got < BATCH * WINDOW:
                ids = range(sent, min(events, sent + BATCH))
                await socket.send(
                    "["
                    + ",".join(
                        f'{{"type":"chat.message","id":"p{n}","channel":"{channel}","payload":{{"text":"event {n}"}}}}'
                        for n in ids
                    )
                    + "]"
                )
                sent = ids.stop
            text = await socket.recv()
            now_ns = time.monotonic_ns()
            found = json.loads(text)
            for message in found if isinstance(found, list) else [found]:
                if message["type"] == "message.received":
                    if message["payload"]["durability"] != "fsync":
                        raise RuntimeError(f"acknowledged as {message['payload']['durability']}")
                    answered.rows.append((now_ns, channel, message["payload"]["id"]))
                    got += 1
                elif message["type"] == "connection.error":
                    raise RuntimeError(f"refused: {message['payload']}")
            if got % (BATCH * 5) < 1:
                await socket.send('{"type":"connection.heartbeat","payload":{}}')


def _lengths(syncs: Path, aof: Path) -> tuple[list[int], list[int]]:
    """The times of the file's syncs and its lengths then."""
    inode = aof.stat().st_ino
    rows = [row for row in struct.iter_unpack("QQQ", syncs.read_bytes()) if row[0] == inode]
    return [row[2] for row in rows], [row[1] for row in rows]


def _ends(aof: Path) -> dict[tuple[str, str], int]:
    """The file length needed to load each event, by (channel, ID): the end of the transaction that appended it."""
    with aof.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        ends = [match.end() for match in _EXEC.finditer(data)]
        found = {}
        for match in _EVENT.finditer(data):
            at = bisect.bisect_left(ends, match.end())
            if at < len(ends):
                found[(f"conversation:{match[1].decode()}", match[2].decode())] = ends[at]
        return found


def _compare(aof: Path, syncs: Path, answered: Answered, report: PowerReport) -> None:
    """Compare every acknowledgement with the length that was on the disk when it arrived."""
    times, lengths = _lengths(syncs, aof)
    ends = _ends(aof)
    report.syncs += len(times)
    for arrived_ns, channel, event_id in answered.rows:
        report.acknowledged += 1
        at = bisect.bisect_right(times, arrived_ns) - 1
        safe = lengths[at] if at >= 0 else 0
        end = ends.get((channel, event_id))
        report.cut_in_thought += 1
        if end is None:
            report.lose(f"{event_id} of {channel} is not in the file")
        elif end > safe:
            report.lose(f"{event_id} of {channel} ends at {end}, {safe} bytes were safe when its answer arrived")


async def _cut(
    binary: Path,
    redis_folder: Path,
    aof: Path,
    syncs: Path,
    answered: Answered,
    report: PowerReport,
    chance: random.Random,
) -> None:
    """Cut copies of the file at random moments, and check the events of a Redis started on each."""
    times, lengths = _lengths(syncs, aof)
    for number in range(CUTS):
        moment_ns = chance.choice(answered.rows)[0]
        safe = lengths[bisect.bisect_right(times, moment_ns) - 1]
        copy = redis_folder.with_name(f"cut{number}")
        shutil.copytree(redis_folder, copy)
        (copy / "server.conf").unlink()
        with (copy / aof.relative_to(redis_folder)).open("r+b") as file:
            file.truncate(safe)
        server = RedisChild(binary, copy)
        server.start()
        try:
            await server.ready()
            due = {(channel, event_id) for arrived_ns, channel, event_id in answered.rows if arrived_ns <= moment_ns}
            held = await _held(server.port)
            report.cut_in_fact += 1
            report.restarted_with.append(len(held))
            for channel, event_id in sorted(due - held):
                report.lose(f"{event_id} of {channel} is not there after the cut at {safe}")
        finally:
            server.kill()
            shutil.rmtree(copy, ignore_errors=True)


async def _held(port: int) -> set[tuple[str, str]]:
    """All events in a Redis, as (channel, ID)."""
    connection = await Resp.connect(port)
    found: set[tuple[str, str]] = set()
    try:
        for number in range(CHANNELS):
            channel = f"conversation:{number}"
            _, keys = await connection.call("SCAN", 0, "MATCH", f"hub:*:power:{channel}", "COUNT", 100_000)
            after = "-"
            while keys and (page := await connection.call("XRANGE", keys[0], after, "+", "COUNT", 5_000, timeout_s=60)):
                found |= {(channel, event_id.decode()) for event_id, _ in page}
                after = "(" + page[-1][0].decode()
    finally:
        connection.close()
    return found
