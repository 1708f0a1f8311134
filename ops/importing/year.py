"""A year of history in a small Redis: chat logs are imported many times over with shifted dates, while a worker archives them.

`python -m ops.importing.year --logs FOLDER` runs a Redis with little memory, a worker with `HUB_RETENTION` and, at the end, a
node. Each channel gets a year: day after day one of the logs, dated that day. It then reads everything back in order and compares
it with the logs, audits the channels, and resumes a client from the first day. It prints the figures as JSON, and exits with 1
if anything is missing or Redis exceeded its limit.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Final

from hub.auth.signing import sign
from hub.client import HubClient
from hub.config import Settings
from hub.storage.choice import reading_archive
from ops.children import Child, NodeProcess, hub
from ops.embedded_redis.server import EmbeddedRedis
from ops.importing.importer import Import
from ops.importing.irc import drafts, parse
from streams.channel import Channel, parse_channel
from streams.cursor import START
from streams.envelope import Draft, Entry
from streams.records.archive import ArchiveRecords, ChannelFacts
from streams.redis.log import Log

TENANT: Final = "year"
FIRST_DAY: Final = date(2025, 1, 1)
PART_MAX: Final = 0.85
"""Part of Redis's memory above which the import waits, as a node refuses a tenant that fills Redis."""
LOOK_EVERY_S: Final = 0.1
_MB: Final = 1_048_576
_SECRET: Final = secrets.token_hex(32)


@dataclass(frozen=True, slots=True)
class YearOptions:
    """The size of a run.

    Attributes:
        logs: the folder with the logs.
        channels: number of channels, each with its own history.
        days: days of history in each.
        limit_mb: `maxmemory` of Redis.
        hot_count: number of events of a channel that stay in Redis.
        seconds_max: seconds after which no further day is begun.
    """

    logs: Path
    channels: int = 8
    days: int = 365
    limit_mb: int = 16
    hot_count: int = 500
    seconds_max: float = 900.0


@dataclass(slots=True)
class YearFigures:
    """The results of a run.

    Attributes:
        waited_s: seconds in which the import stood still because Redis was nearly full, over all channels.
        faults: what is not as it should be; empty if all is well.
    """

    events: int = 0
    days: int = 0
    limit_bytes: int = 0
    peak_bytes: int = 0
    import_s: float = 0.0
    events_per_s: int = 0
    waited_s: float = 0.0
    hot_events: int = 0
    archive_bytes: int = 0
    archive_objects: int = 0
    line_bytes: int = 0
    read_s: float = 0.0
    read_per_s: int = 0
    audit_s: float = 0.0
    resumed_events: int = 0
    resume_s: float = 0.0
    faults: list[str] | None = None


class ImportedEvents:
    """The events sent to a channel, or read from it: their number, and a digest over types, people and payloads in order."""

    def __init__(self) -> None:
        self.count = 0
        self._digest = sha256()

    def add(self, type_: bytes, actor: str, data: bytes) -> None:
        """Add the next event."""
        self.count += 1
        self._digest.update(b"%b %b %b\n" % (type_, actor.encode(), data))

    @property
    def facts(self) -> tuple[int, str]:
        """The number and the digest so far."""
        return self.count, self._digest.hexdigest()


class Year:
    """One run, on a log that a worker archives."""

    def __init__(self, log: Log, options: YearOptions) -> None:
        self.figures = YearFigures(limit_bytes=options.limit_mb * _MB, faults=[])
        self.channels = [parse_channel(TENANT, f"conversation:{number}") for number in range(options.channels)]
        self._log, self._options = log, options
        self._logs = [path.read_text("utf-8", "replace").splitlines() for path in sorted(options.logs.iterdir())]
        self._sent = {channel: ImportedEvents() for channel in self.channels}
        self.first_day: dict[Channel, str] = {}

    async def fill(self) -> None:
        """Import day after day into all channels at once, as fast as Redis has room."""
        began_s = time.monotonic()
        watching = asyncio.create_task(self._watch())
        try:
            await asyncio.gather(*(self._fill(channel, began_s) for channel in self.channels))
        finally:
            watching.cancel()
        figures = self.figures
        figures.import_s = round(time.monotonic() - began_s, 1)
        figures.events = sum(told.count for told in self._sent.values())
        figures.events_per_s = round(figures.events / figures.import_s)
        figures.waited_s = round(figures.waited_s, 1)

    async def _fill(self, channel: Channel, began_s: float) -> None:
        for day in range(self._options.days):
            if time.monotonic() - began_s > self._options.seconds_max:
                return
            await self._room()
            several = list(self._day(channel, day))
            await Import(self._log, several, f"import:{channel.wire}:{day}").run()
            for draft in several:
                self._sent[channel].add(draft.type.encode(), draft.actor.id, draft.data)
            self.figures.days += 1
            if day == 0:
                self.first_day[channel] = (await self._log.look(channel)).head.id

    def _day(self, channel: Channel, day: int) -> Iterator[Draft]:
        lines = self._logs[day % len(self._logs)]
        events = parse(lines, FIRST_DAY + timedelta(days=day))
        # no command ids: Redis would remember each for an hour; the chain of the import excludes duplicates
        return (replace(draft, command=None) for draft in drafts(events, channel, str(day)))

    async def _room(self) -> None:
        began_s = time.monotonic()
        while (used := self._log.memory)[0] > used[1] * PART_MAX:
            await asyncio.sleep(LOOK_EVERY_S)
            await self._log.read_memory()
        self.figures.waited_s += time.monotonic() - began_s

    async def _watch(self) -> None:
        while True:
            await self._log.read_memory()
            self.figures.peak_bytes = max(self.figures.peak_bytes, self._log.memory[0])
            await asyncio.sleep(LOOK_EVERY_S)

    async def read_back(self) -> None:
        """Read every channel from its beginning, across the archive, and compare it with what was sent."""
        began_s, faults = time.monotonic(), self._faults
        for channel in self.channels:
            found, seq = ImportedEvents(), 0
            async for entry in self._events(channel):
                seq += 1
                if entry.seq != seq or entry.is_damaged:
                    faults.append(f"{channel.wire}: seq {entry.seq} in the place of {seq}, or damaged")
                    break
                found.add(entry.type, json.loads(entry.actor)["id"], entry.data)
                self.figures.line_bytes += len(entry.data)
            if found.facts != self._sent[channel].facts:
                faults.append(f"{channel.wire}: {found.count} events read are not the {self._sent[channel].count} sent")
        self.figures.read_s = round(time.monotonic() - began_s, 1)
        self.figures.read_per_s = round(self.figures.events / self.figures.read_s)

    async def _events(self, channel: Channel) -> AsyncIterator[Entry]:
        after = START
        while page := await self._log.page(channel, after):
            for entry in page:
                yield entry
            after = page[-1].id.decode()

    @property
    def _faults(self) -> list[str]:
        if self.figures.faults is None:
            raise RuntimeError("no list of faults")
        return self.figures.faults

    async def resume(self, url: str) -> None:
        """Resume a client from the last event of the first day, and count what it gets up to the head."""
        channel = self.channels[0]
        head, after = (await self._log.look(channel)).head, self.first_day[channel]
        first = await self._log.entry(channel, after)
        seq = first.seq if first else 0
        token = sign(_SECRET, "eve", TENANT, {"*": ["*"]}, 3_600, time.time())
        began_s = time.monotonic()
        async with HubClient(url, token) as client, client.subscribe(channel.wire, after=after) as feed:
            async for item in feed:
                if item.seq != seq + 1:
                    self._faults.append(f"the resumed client got seq {item.seq} after {seq}")
                    return
                seq = item.seq
                self.figures.resumed_events += 1
                if seq == head.seq:
                    break
        if seq != head.seq:
            self._faults.append(f"the resumed client ended at seq {seq}, the head is {head.seq}")
        self.figures.resume_s = round(time.monotonic() - began_s, 1)

    def weigh(self, archive: Path) -> None:
        """Add the size of the archive."""
        files = [path.stat().st_size for path in archive.rglob("*") if path.is_file()]
        self.figures.archive_bytes, self.figures.archive_objects = sum(files), len(files) // 2

    async def count_hot(self) -> None:
        """Add the number of events in Redis, and compare its peak with its limit."""
        found = [await ArchiveRecords(self._log).facts(channel) for channel in self.channels]
        self.figures.hot_events = sum(one.seq - one.floor.seq for one in found if isinstance(one, ChannelFacts))
        if self.figures.peak_bytes > self.figures.limit_bytes:
            self._faults.append("Redis exceeded its limit")


@asynccontextmanager
async def _surroundings(options: YearOptions, folder: Path) -> AsyncIterator[tuple[Log, dict[str, str]]]:
    """A Redis with the limit, a worker that archives, and a log that reads the archive; with the environment of processes."""
    with EmbeddedRedis(folder, is_persistent=False, max_bytes=options.limit_mb * _MB) as redis:
        env = os.environ | {"REDIS_URL": redis.url, "HUB_DATA": str(folder), "HUB_JWT_SECRET": _SECRET}
        env |= {"HUB_RETENTION": f"*=hot_count:{options.hot_count}", "PYTHONPATH": str(Path(__file__).parents[2])}
        settings = replace(Settings.from_env(env), data_dir=str(folder))
        async with reading_archive(settings) as (_, cold):
            log = await Log.open(redis.url, cold=cold)
            worker = Child("the worker", hub("worker"), env)
            try:
                yield log, env
            finally:
                worker.kill()
                await log.close()


async def run(options: YearOptions, folder: Path) -> YearFigures:
    """Run it in an empty folder."""
    async with _surroundings(options, folder) as (log, env):
        await log.read_memory()
        year = Year(log, options)
        await year.fill()
        await year.count_hot()
        year.weigh(folder / "archive")
        await year.read_back()
        began_s = time.monotonic()
        command = hub(
            "audit", "verify", "--all", "--tenant", TENANT, "--redis", env["REDIS_URL"], "--data", str(folder)
        )
        audited = await asyncio.to_thread(subprocess.run, command, env=env, capture_output=True, text=True, check=False)
        if audited.returncode or any(not json.loads(line)["whole"] for line in audited.stdout.splitlines()):
            (year.figures.faults or []).append(f"the audit: {audited.stderr[-500:]}")
        year.figures.audit_s = round(time.monotonic() - began_s, 1)
        node = NodeProcess(env["REDIS_URL"], _SECRET, HUB_DATA=str(folder), PYTHONPATH=env["PYTHONPATH"])
        node.start()
        try:
            await node.ready()
            await year.resume(node.url)
        finally:
            node.kill()
        return year.figures


def main(argv: Sequence[str] | None = None) -> int:
    """Run with the options of the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m ops.importing.year", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--logs", type=Path, required=True, help="the folder with the IRC logs")
    for name, type_ in (
        ("channels", int),
        ("days", int),
        ("limit_mb", int),
        ("hot_count", int),
        ("seconds_max", float),
    ):
        default = getattr(YearOptions(Path()), name)
        parser.add_argument(f"--{name.replace('_', '-')}", type=type_, default=default)
    options = YearOptions(**vars(parser.parse_args(argv)))
    with tempfile.TemporaryDirectory(prefix="hub-year-") as folder:
        figures = asyncio.run(run(options, Path(folder)))
    print(json.dumps(asdict(figures), indent=2))
    return 1 if figures.faults else 0


if __name__ == "__main__":
    sys.exit(main())
