"""The load generator: the C program `load.c`, compiled on first use and controlled over stdin and stdout."""

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
    """The generator could not be built, has ended, or refused a command; the text says what to do."""


def cache_folder() -> Path:
    """The folder for programs that are built or installed once and then reused."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "realtime-hub-bench"


def compiled() -> Path:
    """The path of the compiled program, which is built if this version of the source has not been built on this machine.

    Raises:
        GeneratorFailed: the system is not Linux, there is no C compiler, or the compiler reported errors.
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
    """A histogram: values in milliseconds; `curve` has points (share, value)."""

    count: int = 0
    mean: float = 0.0
    p50: float = 0.0
    p99: float = 0.0
    p99_9: float = 0.0
    max: float = 0.0
    curve: list[list[float]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Seen:
    """The counts of one group of clients since the last reset; the fields are those that `load.c` prints.

    Attributes:
        served: clients to which at least one event was delivered.
        holes: events missing between two received ones, by the server's own numbering.
        gaps: subscriptions that the server could not resume completely from its log.
        expected: deliveries that should have occurred: every acknowledged message, times its subscribers.
        missing: expected deliveries that did not arrive.
        replay_ms: time from reopening a lost connection to the last event that it had missed.
        away_ms: the same, from the moment the connection was lost.
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
        """Convert the generator's output."""
        read: dict[str, Any] = {
            name: Quantiles(**value) if isinstance(value, dict) else value for name, value in wire.items()
        }
        return cls(**read)


@dataclass(frozen=True, slots=True)
class LoadReport:
    """The answer to one command: its duration, the generator's CPU time since its start, each group, and the first problem."""

    seconds: float
    cpu_s: float
    problem: str
    groups: dict[str, Seen]


class Generator:
    """A running load generator."""

    def __init__(self, process: Process, tell: Callable[[str], None]) -> None:
        self._process = process
        self._tell = tell

    @classmethod
    async def start(cls, dialect: str, tokens: Path, tell: Callable[[str], None] = lambda _: None) -> Generator:
        """Start the generator for servers of one dialect; `tokens` has one token per line, which the clients use in turn.

        Raises:
            GeneratorFailed: it could not be built.
        """
        program = await asyncio.to_thread(compiled)
        process = await asyncio.create_subprocess_exec(program, stdin=PIPE, stdout=PIPE, limit=_ANSWER_MAX_BYTES)
        generator = cls(process, tell)
        try:
            await generator.command("dialect", name=dialect, tokens=str(tokens))
        except BaseException:
            await generator.stop()
            raise
        return generator

    @property
    def pid(self) -> int:
        """The process ID."""
        return self._process.pid

    async def command(self, verb: str, **options: object) -> LoadReport:
        """Carry out one command; `load.c` lists them.

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
        """Stop the generator."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
