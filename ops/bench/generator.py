"""The load generator: `load.c`, compiled when it is first used, and driven over its stdin and stdout."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from streams.errors import StreamsError

SOURCE: Final = Path(__file__).with_name("load.c")
_ANSWER_MAX_BYTES: Final = 2**22
_COMPILERS: Final = ("cc", "gcc", "clang")


class GeneratorFailed(StreamsError):
    """The generator could not be built, ended, or refused a command; the text says what to do."""


def cache_folder() -> Path:
    """The folder for programs that are built or installed once and used again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "realtime-hub-bench"


def compiled() -> Path:
    """The program, built if this source was never built on this machine.

    Raises:
        GeneratorFailed: not Linux, no C compiler, or it reported errors.
    """
    if not sys.platform.startswith("linux"):
        raise GeneratorFailed("hub bench needs Linux: its load generator uses epoll")
    program = cache_folder() / f"load-{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]}"
    if program.exists():
        return program
    compiler = next(filter(None, map(shutil.which, _COMPILERS)), None)
    if compiler is None:
        raise GeneratorFailed("hub bench needs a C compiler for its load generator: install gcc (apt-get install gcc)")
    program.parent.mkdir(parents=True, exist_ok=True)
    built = program.with_name(f"{program.name}.{os.getpid()}")
    done = subprocess.run([compiler, "-O2", "-o", str(built), str(SOURCE)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise GeneratorFailed(f"{compiler} could not build {SOURCE}: {done.stderr.strip()[-2000:]}")
    built.rename(program)
    return program


@dataclass(frozen=True, slots=True)
class Quantiles:
    """One histogram: values in milliseconds, `curve` as (share, value)."""

    count: int = 0
    mean: float = 0.0
    p50: float = 0.0
    p99: float = 0.0
    p99_9: float = 0.0
    max: float = 0.0
    curve: list[list[float]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything one group of clients has seen since the last reset; the fields are those that `load.c` prints.

    Attributes:
        served: clients that were delivered anything.
        holes: events missing between two that arrived, by the server's own numbers.
        gaps: subscriptions the server could not bring up to date from its log.
        expected: deliveries there had to be: every message its sender has had back, for every subscriber.
        missing: those that did not arrive.
        replay_ms: from opening a lost connection again to the last event it had missed.
        away_ms: the same from the moment it was lost.
    """

    count: int
    live: int
    served: int
    deliveries: int
    round_trips: int
    holes: int
    duplicates: int
    gaps: int
    failed: int
    lost: int
    back: int
    bytes: int
    expected: int
    received: int
    missing: int
    extra: int
    delivery_ms: Quantiles
    round_trip_ms: Quantiles
    handshake_ms: Quantiles
    replay_ms: Quantiles
    away_ms: Quantiles

    @classmethod
    def of(cls, wire: Mapping[str, Any]) -> Self:
        """Reads what the generator printed."""
        read: dict[str, Any] = {
            name: Quantiles(**value) if isinstance(value, dict) else value for name, value in wire.items()
        }
        return cls(**read)


@dataclass(frozen=True, slots=True)
class LoadReport:
    """The answer to one command: its duration, the generator's CPU time since it started, each group, and the first problem."""

    seconds: float
    cpu_s: float
    problem: str
    groups: dict[str, Seen]


class Generator:
    """One running generator."""

    def __init__(self, process: Process, tell: Callable[[str], None]) -> None:
        self._process = process
        self._tell = tell

    @classmethod
    async def start(cls, dialect: str, tokens: Path, tell: Callable[[str], None] = lambda _: None) -> Generator:
        """Start it for servers of one dialect; `tokens` has one a line, and the clients take them in turns.

        Raises:
            GeneratorFailed: it could not be built.
        """
        program = await asyncio.to_thread(compiled)
        process = await asyncio.create_subprocess_exec(program, stdin=PIPE, stdout=PIPE, limit=_ANSWER_MAX_BYTES)
        generator = cls(process, tell)
        await generator.command("dialect", name=dialect, tokens=str(tokens))
        return generator

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    async def command(self, verb: str, **options: object) -> LoadReport:
        """Carry out one command; `load.c` has the list of them.

        Raises:
            GeneratorFailed: the generator ended.
        """
        assert self._process.stdin is not None  # noqa: S101 - both are pipes
        assert self._process.stdout is not None  # noqa: S101
        words = [verb, *(f"{name}={value}" for name, value in options.items())]
        self._process.stdin.write((" ".join(words) + "\n").encode())
        while line := await self._process.stdout.readline():
            found = json.loads(line)
            if found["is"] == "progress":
                self._tell(f"{verb}: {found['live']:,} of {found['count']:,} live, {found['deliveries']:,} deliveries")
                continue
            groups = {name: Seen.of(seen) for name, seen in found["groups"].items()}
            return LoadReport(found["seconds"], found["cpu_s"], found["problem"], groups)
        raise GeneratorFailed(f"the load generator ended while it carried out {verb}; the lines above say why")

    async def stop(self) -> None:
        """End it."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
