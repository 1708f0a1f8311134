"""NATS with JetStream, installed from the Go module proxy."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Final

from ops.bench.peers.peer import BenchNode, Peer, PeerMissing, PeerNode, Place, run_tool
from ops.embedded_redis.probe import free_port

VERSION: Final = "2.12.1"
_STREAM: Final = {
    "name": "bench",
    "subjects": ["c.>"],
    "storage": "file",
    "retention": "limits",
    "max_msgs_per_subject": 1_000,
    "max_consumers": -1,
    "discard": "old",
    "num_replicas": 1,
}


class NatsNode(PeerNode):
    """A NATS server with a WebSocket port for clients and a TCP port for its set-up."""

    def __init__(self, name: str, port: int, tcp_port: int, command: list[str], env: dict[str, str]) -> None:
        super().__init__(name, port, command, env)
        self.tcp_port = tcp_port

    async def request(self, subject: str, body: dict[str, object]) -> dict[str, object]:
        """Send one request to the server and return its answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.tcp_port)
        text = json.dumps(body).encode()
        hello = b'CONNECT {"verbose":false,"auth_token":"bench"}\r\nSUB answer 1\r\n'
        writer.write(hello + f"PUB {subject} answer {len(text)}\r\n".encode() + text + b"\r\n")
        async with asyncio.timeout(10):
            while not (line := await reader.readline()).startswith(b"MSG answer"):
                if not line:
                    raise PeerMissing("NATS is skipped: it closed the connection that sets it up")
            answer: dict[str, object] = json.loads(await reader.readexactly(int(line.split()[-1])))
        writer.close()
        return answer


class Nats(Peer):
    """NATS with JetStream: each client is a consumer of the stream, so that it has a position to resume from."""

    name = "nats"
    title = f"NATS {VERSION} JetStream"
    dialect = "nats"
    keeps = (
        "Stores in a file of its own, 1,000 messages a subject; each client is a consumer that starts at any position."
    )
    lacks = (
        "Delivery to a client is not acknowledged here, and the file is not synced for each message. A static token instead of "
        "a JWT; no validation, no state, no inbox; one node, so nothing survives it in the scenarios that kill one."
    )
    nodes_max = 1

    def install(self, tools: Path) -> None:
        """Install it with `go install`."""
        if not (tools / "nats-server").exists():
            module = f"github.com/nats-io/nats-server/v2@v{VERSION}"
            run_tool(self.title, ["go", "install", module], env={"GOBIN": str(tools)})

    def node(self, place: Place) -> BenchNode:
        """A server whose number of Go processors equals its number of cores."""
        port, tcp_port = free_port(), free_port()
        path = place.folder / f"nats-{port}.conf"
        path.write_text(
            f'listen: "127.0.0.1:{tcp_port}"\nwebsocket {{ listen: "127.0.0.1:{port}", no_tls: true }}\n'
            'authorization { token: "bench" }\nmax_connections: 100000\nmax_pending: 256MB\n'
            f'jetstream {{ store_dir: "{place.folder}", max_memory_store: 4GB, max_file_store: 20GB }}\n'
        )
        command = [str(place.tools / "nats-server"), "-c", str(path)]
        return NatsNode(self.title, port, tcp_port, command, {"GOMAXPROCS": str(place.cores)})

    def channel(self, name: str) -> str:
        """A subject of the stream."""
        return f"c.{name}"

    async def prepare(self, node: BenchNode) -> None:
        """Create the stream.

        Raises:
            PeerMissing: the server refused it.
        """
        if isinstance(node, NatsNode):
            answer = await node.request("$JS.API.STREAM.CREATE.bench", dict(_STREAM))
            if "error" in answer:
                raise PeerMissing(f"NATS is skipped: {answer['error']}")
