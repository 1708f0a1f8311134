"""Runs Python programs as child processes that import nothing from the current folder and whose stderr is shown when they fail.

`NodeProcess` runs `hub serve` as such a child.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Final

from ops.embedded_redis.probe import free_port
from streams.errors import StreamsError

_LIBRARY: Final = str(Path(__file__).parents[1])
_TOLD_BYTES: Final = 2_000
"""Maximum number of bytes shown of the end of a child's stderr: enough for a traceback's last frames."""


class ChildFailed(StreamsError):
    """A child ended, or was not ready in time; the text has the end of its stderr."""


def python(program: str, *arguments: str) -> list[str]:
    """The command line that runs a program text with our packages.

    Python would search the current folder first, so a package there with the name of one of ours, or of the standard library,
    would be imported instead (-P excludes the folder). Our packages are added to the end of the path, for a checkout that is
    not installed.
    """
    return [sys.executable, "-P", "-c", f"import sys; sys.path.append({_LIBRARY!r}); {program}", *arguments]


def module(name: str, *arguments: str) -> list[str]:
    """The command line for `python -m NAME`."""
    return python(f"import runpy; runpy.run_module({name!r}, run_name='__main__', alter_sys=True)", *arguments)


def hub(*arguments: str) -> list[str]:
    """The command line for `hub ARGUMENTS`."""
    return python("from ops.cli import main; main()", *arguments)


class Child:
    """A child process whose stderr is stored until it is needed; its stdout is discarded."""

    def __init__(self, name: str, command: list[str], env: Mapping[str, str]) -> None:
        self._name = name
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `kill`
        self._process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=self._errors)

    @property
    def pid(self) -> int:
        """The process ID."""
        return self._process.pid

    def refuse_if_ended(self) -> None:
        """Check that the child is running.

        Raises:
            ChildFailed: it has ended.
        """
        if (code := self._process.poll()) is not None:
            raise self.failure(f"ended with code {code}")

    def failure(self, what: str) -> ChildFailed:
        """Build an error that says what happened to the child and shows the end of its stderr."""
        self._errors.seek(0)
        said = self._errors.read()[-_TOLD_BYTES:].decode(errors="replace").strip()
        return ChildFailed(f"{self._name} {what}: {said or 'it said nothing on stderr'}")

    def kill(self) -> None:
        """Kill the child with SIGKILL."""
        self._process.kill()
        self._process.wait()
        self._errors.close()


_PR_SET_PDEATHSIG: Final = 1


def end_with(parent_pid: int) -> Callable[[], None]:
    """Make a function for the child to call first: it asks Linux for SIGTERM when the parent's starting thread ends (prctl(2)).

    It is made before the fork, so that nothing is loaded or allocated after it. On systems other than Linux it does nothing.
    """
    if not sys.platform.startswith("linux"):
        return lambda: None
    libc = ctypes.CDLL(None)

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent_pid:  # the parent died before the request was in force
            os._exit(1)

    return ask


READY_TIMEOUT_S: Final = 120.0


class NodeProcess:
    """`hub serve` as a child on a fixed port, which can be killed and started again."""

    def __init__(self, redis_url: str, secret: str, *, workers: int = 1, **env: str) -> None:
        self._workers = workers
        self.port = free_port()  # outside the range of client ports, because clients keep reconnecting while it is down
        self.environment = os.environ | {
            "REDIS_URL": redis_url,
            "HUB_JWT_SECRET": secret,
            "HUB_RATE_LIMITS": "off",
            "HUB_RUNS_PER_USER": "0",
            "HUB_RUNS_PER_TENANT": "0",
            "HUB_DRAIN_SECONDS": "0",
            **env,
        }
        self._child: Child | None = None

    @property
    def url(self) -> str:
        """The node's URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process ID of the node."""
        if self._child is None:
            raise RuntimeError("the node is not running")
        return self._child.pid

    def start(self) -> None:
        """Start the node; it begins to listen a moment later."""
        command = hub("serve", "--host", "127.0.0.1", "--port", str(self.port), "--workers", str(self._workers))
        self._child = Child("the node", command, self.environment)

    async def ready(self) -> None:
        """Wait until the node is ready.

        Raises:
            ChildFailed: it ended, or was not ready within 120 s.
        """
        if (child := self._child) is None:
            raise RuntimeError("the node is not running")
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not await asyncio.to_thread(self._is_ready):
            child.refuse_if_ended()
            if time.monotonic() > deadline:
                raise child.failure(f"was not ready after {READY_TIMEOUT_S:g} s")
            await asyncio.sleep(0.05)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=2) as answer:  # noqa: S310 - our own loopback URL
                return bool(answer.status == 200) and (self._workers == 1 or _listeners(self.port) >= self._workers)  # noqa: PLR2004
        except (urllib.error.URLError, OSError):
            return False

    def kill(self) -> None:
        """Kill the node with SIGKILL."""
        if self._child is not None:
            self._child.kill()
            self._child = None


def _listeners(port: int) -> int:
    """The number of sockets that listen on a port of IPv4 (proc(5), net/tcp), one for each process that shares it."""
    lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    return sum(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A" for line in lines)
