"""CPU time, memory and CPU affinity of processes on Linux."""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple


class Used(NamedTuple):
    """CPU time so far, and current resident memory."""

    cpu_s: float
    rss_bytes: int


def tree_of(pid: int) -> list[int]:
    """The process IDs of a process and its descendants."""
    found, left = [], [pid]
    while left:
        one = left.pop()
        found.append(one)
        with contextlib.suppress(OSError):
            left += map(int, Path(f"/proc/{one}/task/{one}/children").read_text().split())
    return found


def used_by(pid: int) -> Used:
    """User and system CPU time, and memory, of a process and its running descendants (proc(5))."""
    cpu_s, rss_bytes = 0.0, 0
    for one in tree_of(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            cpu_s += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            rss_bytes += int(Path(f"/proc/{one}/statm").read_text().split()[1]) * resource.getpagesize()
    return Used(cpu_s, rss_bytes)


class Cores(NamedTuple):
    """The cores of the measured servers, and those of Redis and the generator."""

    servers: frozenset[int]
    others: frozenset[int]

    @classmethod
    def split(cls, servers: int = 1) -> Cores:
        """Split the cores available to this process: the first `servers` and the rest; if there is only one, both use it."""
        usable = sorted(os.sched_getaffinity(0))
        count = min(servers, len(usable) - 1) or len(usable)
        return cls(frozenset(usable[:count]), frozenset(usable[count:] or usable))

    @classmethod
    def shared(cls) -> Cores:
        """All cores for everybody."""
        usable = frozenset(os.sched_getaffinity(0))
        return cls(usable, usable)


def pin(pid: int, cores: Iterable[int]) -> None:
    """Restrict a process, its threads and its descendants to these cores."""
    for one in tree_of(pid):
        for task in Path(f"/proc/{one}/task").iterdir():
            with contextlib.suppress(OSError):
                os.sched_setaffinity(int(task.name), cores)


def allow_many_files() -> None:
    """Raise this process's limit of open files to the maximum; child processes inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def machine() -> str:
    """A description of the machine."""
    return f"{_processor()}, {os.cpu_count()} cores, {platform.platform()}, Python {platform.python_version()}"


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def commit() -> str:
    """The measured commit, if this is a checkout; a plus sign means that files differ from it."""
    if (git := shutil.which("git")) is None:
        return "unknown"
    found = subprocess.run([git, "describe", "--always", "--dirty=+"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"
