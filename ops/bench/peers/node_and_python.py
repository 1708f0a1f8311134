"""Peers in Node and Python: Socket.IO, installed from npm, and a plain hub on FastAPI, which needs no further packages."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from ops.bench.peers.peer import BenchNode, Peer, PeerNode, Place, run_tool
from ops.children import module
from ops.embedded_redis.probe import free_port

SOCKETIO_VERSION: Final = "4.8.1"
SERVER: Final = Path(__file__).with_name("socketio.js")
_PACKAGES: Final = (f"socket.io@{SOCKETIO_VERSION}", "@socket.io/redis-streams-adapter@0.2.2", "redis@4.7.0")


class SocketIo(Peer):
    """Socket.IO with the Redis Streams adapter and connection state recovery."""

    name = "socketio"
    title = f"Socket.IO {SOCKETIO_VERSION} + Redis Streams adapter"
    dialect = "socketio"
    keeps = (
        "Writes packets to one shared stream of Redis, 500,000 of them; a client is brought up to date from there within ten "
        "minutes."
    )
    lacks = (
        "A packet is delivered locally, and acknowledged, before it is stored. Recovery reads the shared stream, everybody's "
        "packets, and ends with the session's data; no order between servers, no idempotency, no validation, no history, no state."
    )

    def install(self, tools: Path) -> None:
        """Install it with npm."""
        folder = tools / "socketio"
        if not (folder / "node_modules" / "socket.io").exists():
            folder.mkdir(parents=True, exist_ok=True)
            run_tool(self.title, ["node", "--version"])
            run_tool(self.title, ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), *_PACKAGES])
        shutil.copy(SERVER, folder / SERVER.name)

    def node(self, place: Place) -> BenchNode:
        """A server in one Node process."""
        port = free_port()
        command = ["node", str(place.tools / "socketio" / SERVER.name), str(port), place.redis_url]
        return PeerNode(self.title, port, command, {"SECRET": place.secret})


class PlainHub(Peer):
    """The hub a team writes first."""

    name = "plain"
    title = "plain FastAPI + Redis PUB/SUB"
    dialect = "plain"
    keeps = "Nothing: a message goes through Redis PUB/SUB to whoever is connected."
    lacks = (
        "Nothing is stored, nothing can be resumed, no command is acknowledged; a message is lost to whoever is away, and one slow "
        "socket holds up all others."
    )
    resumes = False

    def install(self, tools: Path) -> None:
        """Does nothing: FastAPI, uvicorn and redis-py are installed with the hub."""

    def node(self, place: Place) -> BenchNode:
        """A process of uvicorn."""
        port = free_port()
        app = "ops.bench.peers.plain_app:app"
        command = module("uvicorn", app, "--port", str(port), "--log-level", "error")
        environment = {
            "SECRET": place.secret,
            "REDIS_URL": place.redis_url,
            "PYTHONPATH": str(Path(__file__).parents[3]),
        }
        return PeerNode(self.title, port, command, environment)
