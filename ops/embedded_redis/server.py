"""A real redis-server as a child process: what `hub dev` and the tests run on when no Redis is given.

It starts, finds, supervises and stops a server on one data directory. It deliberately knows no client library, no
keys and no events, and never touches a server it was not pointed at.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal, Self

from ops.embedded_redis.binary import binary_version, redis_binary
from ops.embedded_redis.parent_death import end_with
from ops.embedded_redis.probe import RunningRedis, address_of, free_port, is_free, probe, url_of
from streams.errors import StreamsError

START_TIMEOUT_S: Final = 30.0
"""A gigabyte of append-only file loads in about 10 s; shorter gives up on a server that is only busy reading it."""
STOP_TIMEOUT_S: Final = 10.0
_PROBE_EVERY_S: Final = 0.01
_WATCH_EVERY_S: Final = 0.05

FsyncPolicy = Literal["everysec", "always", "no"]


class RedisNotStarted(StreamsError):
    """The child ended or did not answer in time; the text holds the end of its log."""


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
        """True when this object started the server, so that `stop` ends it."""
        return self._child is not None

    def start(self, timeout_s: float = START_TIMEOUT_S) -> str:
        """Start the server, or find the one that runs on this data directory; return its URL once it answers.

        Call it from a thread that outlives the server: Linux ties the child to the starting *thread* (prctl(2)).

        Raises:
            RedisNotFound: no usable binary.
            RedisNotStarted: it ended at once, or whoever holds the directory did not answer in time.
        """
        deadline = time.monotonic() + timeout_s
        self._forget_ended()
        while not self._is_ready():
            if time.monotonic() > deadline:
                self.stop()
                raise RedisNotStarted(f"the redis-server on {self.data_dir} did not answer within {timeout_s:g} s")
            time.sleep(_PROBE_EVERY_S)
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
        """True while the process exists (it may be stopped or loading)."""
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
            self._forget_ended()
            while not self._is_ready():  # noqa: ASYNC110 - another process raises no event
                await asyncio.sleep(_PROBE_EVERY_S)
            on_restart(self._known())

    def __enter__(self) -> Self:
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

    def _is_ready(self) -> bool:
        """One look, without waiting: start what is not there, say whether it answers."""
        if self._child is None:
            self._spawn_if_free()
        if self._child is None:
            return self._adopt()
        self._refuse_if_ended(self._child)
        return self._look(self._port, self._unix_socket, self._child.pid)

    def _look(self, port: int, unix_socket: Path | None, pid: int) -> bool:
        answer = probe(port, unix_socket)
        if answer is None or answer.pid != pid:
            return False
        self._port, self._unix_socket, self._running = port, unix_socket, answer
        return True

    def _adopt(self) -> bool:
        """Use the server that `redis.json` names, if that very process answers there."""
        try:
            noted = json.loads(self._note.read_text())
            return self._look(*address_of(noted["url"]), noted["pid"])
        except (OSError, ValueError, TypeError, KeyError):
            return False  # nothing is noted yet

    def _spawn_if_free(self) -> None:
        """Start a server unless one holds the directory: two would write one append-only file.

        The lock's descriptor is inherited, so that the server itself holds it for as long as it lives.
        """
        self.data_dir.mkdir(parents=True, exist_ok=True)
        with (self.data_dir / "redis.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            self._choose_address()
            self._child = self._spawn(lock.fileno())
            url = url_of(self._port, self._unix_socket)
            self._note.write_text(json.dumps({"url": url, "pid": self._child.pid}))

    def _choose_address(self) -> None:
        if self._unix_socket is not None:
            self._unix_socket.unlink(missing_ok=True)
            return
        if self._running is not None:
            return  # clients know the address: it stays
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):  # the port of the last time, if any
            self._port = self._port or address_of(json.loads(self._note.read_text())["url"])[0]
        if not is_free(self._port):
            self._port = free_port()

    def _spawn(self, lock: int) -> subprocess.Popen[bytes]:
        binary = self._binary or redis_binary()
        self._refuse_older_data(binary)
        config = self.data_dir / "redis.conf"
        config.write_text(self._configuration())
        return subprocess.Popen(
            [binary, config],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(lock,),
            start_new_session=True,  # Ctrl-C is the hub's to handle: it drains before its Redis goes
            preexec_fn=end_with(os.getpid()),  # noqa: PLW1509 - it calls one function of libc, loaded before the fork
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

    def _forget_ended(self) -> None:
        if self._child is not None and self._child.poll() is not None:
            self._child = None

    def _refuse_if_ended(self, child: subprocess.Popen[bytes]) -> None:
        if child.poll() is None:
            return
        log = self.data_dir / "redis.log"
        last = log.read_text(errors="replace").strip().splitlines()[-3:] if log.exists() else []
        raise RedisNotStarted(f"redis-server ended with code {child.returncode}: " + " / ".join(last))


def holds_data(folder: Path) -> bool:
    """True when a server has kept data in this folder."""
    return any((folder / name).exists() for name in ("redis.json", "appendonlydir", "appendonly.aof"))


def _is_process(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
