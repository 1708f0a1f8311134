"""Runs a redis-server as a child process; `hub dev` and the tests use it if no Redis is configured.

It starts, finds, supervises and stops a server on one data directory. It uses no client library, knows no keys and no events,
and never touches a server outside that directory.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import secrets
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal, Self, TextIO

from ops.children import end_with
from ops.embedded_redis.probe import Address, RunningRedis, free_port, is_free, probe
from ops.embedded_redis.programs import ServerProgram, ServerVersion, server_programs, version_of
from streams.errors import StreamsError

START_TIMEOUT_S: Final = 30.0
"""Time limit for a start. A gigabyte of append-only file loads in about 10 s; with a shorter limit, a server that is still
loading would be given up.
"""
STOP_TIMEOUT_S: Final = 10.0
SOCKET_PATH_MAX_BYTES: Final = 103
"""Maximum length of a unix socket's path on macOS; Linux allows 107 (unix(7))."""
_ALLOWED: Final = "~* &* +@all -config +config|get -module -debug -acl -replicaof -slaveof -migrate"
"""The ACL rules of all users: everything except commands that write other files, load code, or change these rules."""
_PROBE_EVERY_S: Final = 0.01
_WATCH_EVERY_S: Final = 0.05

FsyncPolicy = Literal["everysec", "always", "no"]


class RedisNotStarted(StreamsError):
    """The child ended or did not answer in time; the text has the end of its log."""


class EmbeddedRedis:
    """A redis-server on one data directory.

    `start` uses a server that already runs on the directory, so that `hub replay` works beside `hub dev`. A server started here
    ends with this process (on Linux even if it is killed; elsewhere the next `start` finds and uses the server).

    Only this account can connect. The server listens on a unix socket in `run`, a folder of the data directory that other
    accounts cannot enter. If the path is too long for a socket, it listens on a port with a random password, which is stored in
    `redis.json`. Its files are readable only by this account, and CONFIG SET, MODULE, DEBUG and similar commands are refused to
    everybody.

    Args:
        data_dir: holds the append-only file, `redis.conf`, `redis.log` and `redis.json`; created if missing.
        port: listen on this port of 127.0.0.1, or on a free one if it is taken; 0 uses a unix socket.
        unix_socket: listen on this socket instead.
        fsync: Redis's appendfsync; durability `fsync` needs `always` on servers without WAITAOF.
        is_persistent: write an append-only file.
        is_guarded: False for a server that tests reconfigure: every command is allowed, and a port needs no password.
        max_bytes: Redis's memory limit; 0 for none.
        has_own_session: Ctrl-C on a terminal does not reach the server, so that a hub can drain before its Redis ends. Linux
            weighs sessions against each other (sched(7), autogroup): False lets priorities within the caller's session count.
    """

    def __init__(
        self,
        data_dir: Path | str = ".hub",
        *,
        port: int = 0,
        unix_socket: Path | None = None,
        fsync: FsyncPolicy = "everysec",
        is_persistent: bool = True,
        is_guarded: bool = True,
        binary: Path | None = None,
        max_bytes: int = 0,
        has_own_session: bool = True,
    ) -> None:
        self.data_dir = Path(data_dir).absolute()
        self.fsync = fsync
        self.is_persistent = is_persistent
        self.is_guarded = is_guarded
        self._max_bytes = max_bytes
        self._has_own_session = has_own_session
        self._address = Address(port, unix_socket)
        self._binary = binary
        self._child: subprocess.Popen[bytes] | None = None
        self._running: RunningRedis | None = None

    @property
    def url(self) -> str:
        """`unix:///path?db=0` or `redis://:password@127.0.0.1:N/0`; known once the server has started."""
        return self._known().url

    @property
    def version(self) -> str:
        """The Redis version that the server is compatible with, such as 6.2.14."""
        return self._known().version

    @property
    def server(self) -> str:
        """The server's name and version, such as Valkey 9.1.2."""
        return self._known().server

    @property
    def pid(self) -> int:
        """The server's process ID."""
        return self._known().pid

    @property
    def is_ours(self) -> bool:
        """True if this object started the server; only then does `stop` end it."""
        return self._child is not None

    def start(self, timeout_s: float = START_TIMEOUT_S) -> str:
        """Start the server, or find the one that runs on this data directory; returns its URL once it answers.

        Call it from a thread that outlives the server: Linux ties the child to the starting thread (prctl(2)).

        Raises:
            RedisNotFound: there is no usable program.
            RedisNotStarted: the server ended at once, or the one running on the directory did not answer in time.
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
        """End the server if this object started it: SIGTERM, so that it writes its data, then SIGKILL after `STOP_TIMEOUT_S`."""
        child, self._child, self._running = self._child, None, None
        if child is None:
            return
        child.send_signal(signal.SIGCONT)  # a server stopped by a fault test could not handle SIGTERM
        child.terminate()
        try:
            child.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()

    def is_alive(self) -> bool:
        """True while the process exists, even if it is stopped or loading."""
        if self._child is not None:
            return self._child.poll() is None
        return self._running is not None and _is_process(self._running.pid)

    async def supervise(self, on_restart: Callable[[RunningRedis], None] = lambda _: None) -> None:
        """Restart the server at the same address whenever it has ended, until cancelled.

        Cancelling does not stop the server; the caller must call `stop`.
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
        """Check once, without waiting: start the server if there is none, and return whether it answers."""
        if self._child is None:
            self._spawn_if_free()
        if self._child is None:
            return self._adopt()
        self._refuse_if_ended(self._child)
        return self._look(self._address, self._child.pid)

    def _look(self, address: Address, pid: int) -> bool:
        answer = probe(address)
        if answer is None or answer.pid != pid:
            return False
        self._address, self._running = address, answer
        return True

    def _adopt(self) -> bool:
        """Use the server that `redis.json` names, if that process answers at the address."""
        try:
            noted = json.loads(self._note.read_text())
            return self._look(Address.of(noted["url"]), noted["pid"])
        except (OSError, ValueError, TypeError, KeyError):
            return False  # no server is recorded yet

    def _spawn_if_free(self) -> None:
        """Start a server unless one holds the directory: two would write the same append-only file.

        The child inherits the lock's descriptor, so that the server itself holds the lock as long as it runs.
        """
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _open_private(self.data_dir / "redis.lock") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            self._choose_address()
            program = self._choose_program()
            self._child = self._spawn(program.binary, lock.fileno())
            note = {"url": self._address.url, "pid": self._child.pid, "server": program.version}
            _write_private(self._note, json.dumps(note))

    def _choose_address(self) -> None:
        if self._running is None:  # otherwise clients know the address, which must not change
            self._address = self._new_address()
        if (place := self._address.unix_socket) is not None:
            place.unlink(missing_ok=True)

    def _new_address(self) -> Address:
        given = self._address
        if given.unix_socket is not None:
            return given
        own = self.data_dir / "run" / "redis.sock"
        if self.is_guarded and not given.port and len(os.fsencode(own)) <= SOCKET_PATH_MAX_BYTES:
            _make_private(own.parent)
            return Address(unix_socket=own)
        noted = Address()
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):  # the previous address, if any
            noted = Address.of(json.loads(self._note.read_text())["url"])
        port = given.port or noted.port
        password = (noted.password or secrets.token_urlsafe(24)) if self.is_guarded else ""
        return Address(port if is_free(port) else free_port(), None, password)

    def _choose_program(self) -> ServerProgram:
        """The preferred server among those that can read the data in the folder; another one would silently lose part of it.

        Raises:
            RedisNotFound: there is no server at all.
            RedisNotStarted: none of them can read the data.
        """
        given = self._binary and ServerProgram(self._binary, version_of(self._binary))
        written_by = self._written_by()
        present: list[ServerProgram] = []
        for program in (given,) if given else server_programs():
            if written_by is None or program.version.can_read(written_by):
                return program
            present.append(program)
        raise RedisNotStarted(
            f"{self.data_dir} was written by {written_by}, whose files {' or '.join(map(str, present))} cannot read: "
            "put that server or a newer one on PATH, or choose another data directory"
        )

    def _written_by(self) -> ServerVersion | None:
        """The server that wrote the data in the folder; None if there is none, or if every supported server can read it."""
        is_folder = (self.data_dir / "appendonlydir").is_dir()
        if not is_folder and not (self.data_dir / "appendonly.aof").exists():
            return None
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            name, (major, minor, patch) = json.loads(self._note.read_text())["server"]
            return ServerVersion(str(name), (int(major), int(minor), int(patch)))
        return ServerVersion("redis", (7, 0, 0)) if is_folder else None  # such folders exist since that version

    def _spawn(self, binary: Path, lock: int) -> subprocess.Popen[bytes]:
        config = self.data_dir / "redis.conf"
        _write_private(config, self._configuration())
        _close_to_others(self.data_dir)
        return subprocess.Popen(
            [binary, config],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(lock,),
            umask=0o077,
            start_new_session=self._has_own_session,
            preexec_fn=end_with(os.getpid()),  # noqa: PLW1509 - it calls one function of libc, loaded before the fork
        )

    def _configuration(self) -> str:
        """The server's configuration file, one setting per line."""
        at = self._address
        listen = f'port 0\nunixsocket "{at.unix_socket}"\nunixsocketperm 600' if at.unix_socket else f"port {at.port}"
        login = f">{at.password}" if at.password else "nopass"
        return "\n".join(
            (
                listen,
                "bind 127.0.0.1",
                f"user default on {login} {_ALLOWED}" if self.is_guarded else "",
                f'dir "{self.data_dir}"',
                f'logfile "{self.data_dir / "redis.log"}"',
                "loglevel warning",
                f"appendonly {'yes' if self.is_persistent else 'no'}",
                f"appendfsync {self.fsync}",
                'save ""',  # the append-only file holds the data; snapshots would only slow the disk down
                f"maxmemory {self._max_bytes}",
                "maxmemory-policy noeviction",  # an evicted stream is lost history
                "stop-writes-on-bgsave-error no",
                "",
            )
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
    """True if a server has stored data in this folder."""
    return any((folder / name).exists() for name in ("redis.json", "appendonlydir", "appendonly.aof"))


def _open_private(file: Path) -> TextIO:
    """Open a file for writing anew, readable only by this account."""
    opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    os.fchmod(opened, 0o600)
    return os.fdopen(opened, "w")


def _write_private(file: Path, text: str) -> None:
    with _open_private(file) as opened:
        opened.write(text)


def _make_private(folder: Path) -> None:
    """Create a folder that other accounts cannot enter.

    Raises:
        RedisNotStarted: the folder belongs to another account.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise RedisNotStarted(f"{folder} belongs to another account: remove it, or choose another data directory")
    folder.chmod(0o700)


def _close_to_others(data_dir: Path) -> None:
    """Restrict the permissions of files that an earlier version left readable by others."""
    for file in (*data_dir.glob("redis.*"), *data_dir.glob("appendonly*"), *data_dir.glob("appendonlydir/*")):
        file.chmod(0o700 if file.is_dir() else 0o600)


def _is_process(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
