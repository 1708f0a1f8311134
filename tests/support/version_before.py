"""The version before this one, to be run beside it: a fixed commit, taken from the repository's own history."""

from __future__ import annotations

import asyncio
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Final

import pytest

from ops.torture.cluster import Process, is_ready
from ops.torture.servers import free_port
from support.nodes import SECRET

VERSION_BEFORE: Final = "3103d33075a00536ae33f995341a17ac27ceacff"
"""The last tree before deletion, erasure, restore and repartition, which changed scripts, records and replies."""
_PARTS: Final = ("streams", "projections", "hub", "consumers", "ops", "tests/conformance")
_DEMO: Final = "consumers.agents.demo:agent"
ROOT: Final = Path(__file__).parents[2]


def tree_before(folder: Path) -> Path:
    """Write the files of the version before into a folder, and skip the test where the history does not reach back to it.

    It runs with the packages of this environment: it needs no others.
    """
    made = subprocess.run(["git", "-C", ROOT, "archive", VERSION_BEFORE, *_PARTS], capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"the history of this checkout does not reach back to {VERSION_BEFORE[:7]}: a shallow clone?")
    with tarfile.open(fileobj=BytesIO(made.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder


class Version:
    """A node and a worker of one version, as processes that may be started, ended and killed."""

    def __init__(self, name: str, tree: Path, folder: Path, redis_url: str) -> None:
        self.name, self.port = name, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.ws_url = f"ws://127.0.0.1:{self.port}/ws"
        self._log = folder / f"{name}.log"
        env = {
            "REDIS_URL": redis_url,
            "HUB_JWT_SECRET": SECRET,
            "HUB_RATE_LIMITS": "off",
            "HUB_DRAIN_SECONDS": "1",
            "HUB_DATA": str(folder / "data"),
            "HUB_AGENTS": f"demo={_DEMO},{name}={_DEMO}",
        }
        serve = ["serve", "--host", "127.0.0.1", "--port", str(self.port)]
        self.node = Process(f"{name}-node", serve, env, tree, self._log)
        self.worker = Process(f"{name}-worker", ["worker"], env, tree, self._log)

    async def start(self) -> None:
        """Start both, and wait until the node is ready."""
        self.node.start()
        self.worker.start()
        await self.ready()

    async def ready(self) -> None:
        """Wait until the node is ready."""
        async with asyncio.timeout(120):
            while not await asyncio.to_thread(is_ready, self.url):
                assert self.node.is_running, self._log.read_text()
                await asyncio.sleep(0.05)  # another process raises no event

    async def end(self) -> None:
        """End both with SIGTERM."""
        await asyncio.gather(self.node.end(), self.worker.end())

    def kill(self) -> None:
        """Kill both."""
        self.node.kill()
        self.worker.kill()
