"""The interface of a server that is compared: how it is installed and started, and what it does and does not promise."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final, Protocol

from ops.children import Child
from streams.errors import StreamsError

_READY_WITHIN_S: Final = 60.0
_INSTALL_WITHIN_S: Final = 900


class PeerMissing(StreamsError):
    """A peer cannot be measured on this machine; the text says why, and what would help."""


class BenchNode(Protocol):
    """One node of a server under measurement."""

    port: int

    @property
    def pid(self) -> int:
        """Its process."""
        ...

    def start(self) -> None:
        """Start it; it listens a moment later."""
        ...

    async def ready(self) -> None:
        """Until it takes clients."""
        ...

    def kill(self) -> None:
        """SIGKILL."""
        ...


class PeerNode:
    """A node of a peer: a child of ours that listens on a port of this machine."""

    def __init__(self, name: str, port: int, command: list[str], env: Mapping[str, str]) -> None:
        self.port = port
        self._name, self._command, self._env = name, command, os.environ | env
        self._child: Child | None = None

    @property
    def pid(self) -> int:
        """Its process."""
        if self._child is None:
            raise RuntimeError(f"{self._name} is not running")
        return self._child.pid

    def start(self) -> None:
        """Start it; it listens a moment later."""
        self._child = Child(self._name, self._command, self._env)

    async def ready(self) -> None:
        """Until it accepts connections.

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
        """SIGKILL."""
        if self._child is not None:
            self._child.kill()
            self._child = None


class Peer(ABC):
    """One server.

    Attributes:
        name: as the command line names it.
        title: as people name it.
        dialect: the generator's dialect.
        keeps: what it stores and promises, in a sentence.
        lacks: what it does not guarantee, in a sentence.
        has_redis: whether it stores in Redis.
        resumes: whether a client can come back to its place.
        nodes_max: nodes that can share what they store.
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
        """Install it into the folder, unless it is there.

        Raises:
            PeerMissing: its toolchain is not on this machine, or failed.
        """

    @abstractmethod
    def node(self, tools: Path, folder: Path, redis_url: str, secret: str, cores: int) -> BenchNode:
        """A node that is not started yet; `folder` is its own, HS256 tokens are signed with `secret`."""

    def channel(self, name: str) -> str:
        """The beginning of this server's channel names for one of ours."""
        return name

    async def prepare(self, node: BenchNode) -> None:
        """Set up what clients need, once a first node runs; here nothing."""
        del node


def run_tool(peer: str, command: list[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> None:
    """Run one step of an installation.

    Raises:
        PeerMissing: the program is not there, or failed.
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
