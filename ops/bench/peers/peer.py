"""The interface of a server to be compared: its installation, its start, and its guarantees."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final, NamedTuple, Protocol

from ops.children import Child
from streams.errors import StreamsError

_READY_WITHIN_S: Final = 60.0
_INSTALL_WITHIN_S: Final = 900


class PeerMissing(StreamsError):
    """A peer cannot be measured on this machine; the text has the reason and a remedy."""


class BenchNode(Protocol):
    """A node of a measured server."""

    port: int

    @property
    def pid(self) -> int:
        """The process ID."""
        ...

    def start(self) -> None:
        """Start the node; it begins to listen a moment later."""
        ...

    async def ready(self) -> None:
        """Wait until the node accepts clients."""
        ...

    def kill(self) -> None:
        """Kill the node with SIGKILL."""
        ...


class PeerNode:
    """A peer's node: a child process that listens on a port of this machine."""

    def __init__(self, name: str, port: int, command: list[str], env: Mapping[str, str]) -> None:
        self.port = port
        self._name, self._command, self._env = name, command, os.environ | env
        self._child: Child | None = None

    @property
    def pid(self) -> int:
        """The process ID."""
        if self._child is None:
            raise RuntimeError(f"{self._name} is not running")
        return self._child.pid

    def start(self) -> None:
        """Start the node; it begins to listen a moment later."""
        self._child = Child(self._name, self._command, self._env)

    async def ready(self) -> None:
        """Wait until the node accepts connections.

        Raises:
            ChildFailed: it ended, or did not listen within a minute.
        """
        if (child := self._child) is None:
            raise RuntimeError(f"{self._name} is not running")
        deadline = time.monotonic() + _READY_WITHIN_S
        while True:
            child.refuse_if_ended()
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                if time.monotonic() > deadline:
                    raise child.failure(f"did not listen after {_READY_WITHIN_S:g} s") from None
                await asyncio.sleep(0.05)
                continue
            writer.close()
            return

    def kill(self) -> None:
        """Kill the node with SIGKILL."""
        if self._child is not None:
            self._child.kill()
            self._child = None


class Place(NamedTuple):
    """The folders, addresses and limits for a node.

    Attributes:
        tools: the folder of installed peers.
        folder: for files of the nodes.
        secret: signs the HS256 tokens of clients.
        cores: cores that each node may use.
        workers: processes of one node that share its port.
        has_limits: the default rate limits are on.
        has_archive: an archive is in the folder.
    """

    tools: Path
    folder: Path
    redis_url: str
    secret: str
    cores: int
    workers: int
    has_limits: bool = False
    has_archive: bool = False


class Peer(ABC):
    """A server to be compared.

    Attributes:
        name: its name on the command line.
        title: its name for people.
        dialect: the protocol that the load generator uses for it.
        keeps: a sentence about what it stores and guarantees.
        lacks: a sentence about the limits of its guarantees.
        has_redis: true if it stores in Redis.
        resumes: true if a client can resume from its position.
        nodes_max: number of nodes that can share their stored data.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    dialect: ClassVar[str]
    keeps: ClassVar[str]
    lacks: ClassVar[str]
    has_redis: ClassVar[bool] = True
    resumes: ClassVar[bool] = True
    nodes_max: ClassVar[int] = 2

    @abstractmethod
    def install(self, tools: Path) -> None:
        """Install the server into the folder `tools`, unless it is already there.

        Raises:
            PeerMissing: its toolchain is missing or failed.
        """

    @abstractmethod
    def node(self, place: Place) -> BenchNode:
        """Create a node without starting it."""

    def channel(self, name: str) -> str:
        """The prefix of this server's channel names that corresponds to the channel `name`."""
        return name

    async def prepare(self, node: BenchNode) -> None:
        """Prepare the server for clients once its first node runs; by default does nothing."""
        del node


def run_tool(peer: str, command: list[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> None:
    """Run one step of an installation.

    Raises:
        PeerMissing: the program is missing or failed.
    """
    program = shutil.which(command[0])
    if program is None:
        raise PeerMissing(f"{peer} is skipped: it needs {command[0]}, which is not on PATH")
    try:
        done = subprocess.run(
            [program, *command[1:]],
            env=os.environ | (env or {}),
            cwd=cwd,
            capture_output=True,
            text=True,
            check=False,
            timeout=_INSTALL_WITHIN_S,
        )
    except subprocess.TimeoutExpired:
        raise PeerMissing(f"{peer} is skipped: `{' '.join(command)}` took longer than {_INSTALL_WITHIN_S} s") from None
    if done.returncode:
        raise PeerMissing(f"{peer} is skipped: `{' '.join(command)}` failed: {done.stderr.strip()[-600:]}")
