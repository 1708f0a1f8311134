"""A private redis-server for tests, which can be killed, stopped, continued and restarted."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ops.embedded_redis.server import FsyncPolicy

SERVER_VARIABLE: Final = "TEST_SERVER"
"""The environment variable that selects the default server: `6.2`, `7` or `valkey`; if unset, the one that `hub dev` would use."""
SERVERS: Final = {"6.2": ("redis", (6, 2)), "7": ("redis", (7,)), "valkey": ("valkey", (9,))}


def server_binary(server: str) -> Path | None:
    """The path of this server's program, from PATH or a package; None if there is none."""
    from ops.embedded_redis.programs import server_programs

    name, version = SERVERS[server]
    for program in server_programs():
        if program.version.name == name and program.version.version[: len(version)] == version:
            return program.binary
    return None


def _default_binary() -> Path | None:
    server = os.environ.get(SERVER_VARIABLE)
    if not server:
        return None
    binary = server_binary(server)
    assert binary is not None, f"{SERVER_VARIABLE}={server}: there is no such server here"
    return binary


class RedisServer:
    """A server on a unix socket in a temporary folder with a short name. All methods are synchronous.

    Args:
        is_persistent: use an append-only file, so that data survives `kill` and `restart`.
        on_port: listen on a random port of 127.0.0.1 instead of a unix socket.
        binary: the redis-server program; by default the one selected by `TEST_SERVER`.
    """

    def __init__(
        self,
        *,
        is_persistent: bool = False,
        fsync: FsyncPolicy = "everysec",
        on_port: bool = False,
        binary: Path | None = None,
    ) -> None:
        from ops.embedded_redis.server import EmbeddedRedis

        self.folder = Path(tempfile.mkdtemp(prefix="hubredis-"))
        self.embedded = EmbeddedRedis(
            self.folder,
            unix_socket=None if on_port else self.folder / "s",
            is_persistent=is_persistent,
            fsync=fsync,
            binary=binary or _default_binary(),
            is_guarded=False,
        )
        self.url = self.embedded.start()

    @property
    def pid(self) -> int:
        """The process ID of the current server process."""
        return self.embedded.pid

    @property
    def version(self) -> tuple[int, ...]:
        """The version, such as (7, 0, 15), for tests of newer servers' features."""
        return tuple(int(part) for part in self.embedded.version.split("."))

    def kill(self) -> None:
        """Kill the server with SIGKILL; it writes nothing more. Returns when the process has ended."""
        child = self.embedded._child
        assert child is not None
        child.kill()
        child.wait()

    def stop(self) -> None:
        """Stop the server with SIGSTOP: connections stay open and nothing answers, as when a host hangs."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Continue the server with SIGCONT after `stop`."""
        os.kill(self.pid, signal.SIGCONT)

    def restart(self) -> None:
        """Start the server again at the same address with the same data, after `kill`. Returns when it answers."""
        self.embedded.start()

    @contextlib.contextmanager
    def killed(self) -> Iterator[None]:
        """Kill the server for the duration of the block; then it is started again at the same address."""
        self.kill()
        try:
            yield
        finally:
            self.restart()

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop the server for the duration of the block; then it continues."""
        self.stop()
        try:
            yield
        finally:
            self.resume()

    def close(self) -> None:
        """End the server and remove its folder."""
        self.embedded.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
