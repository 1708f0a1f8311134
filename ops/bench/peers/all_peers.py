"""This hub, as `hub serve` runs it, and the list of all servers with which it can be compared."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ops.bench.peers.centrifugo import Centrifugo
from ops.bench.peers.nats import Nats
from ops.bench.peers.node_and_python import PlainHub, SocketIo
from ops.bench.peers.peer import BenchNode, Peer, Place
from ops.children import NodeProcess


class ThisHub(Peer):
    """This hub. It is always measured, and the others are compared with it."""

    name = "hub"
    title = "this hub"
    dialect = "hub"
    keeps = (
        "Stores in Redis before it acknowledges and delivers; validates and deduplicates every command; resumes each channel "
        "exactly, on any node."
    )
    lacks = (
        "Order holds within a channel, not between channels. What is acknowledged as `memory` may be lost with the Redis "
        "that held it."
    )

    def install(self, tools: Path) -> None:
        """Does nothing, because the hub is already installed."""

    def node(self, place: Place) -> BenchNode:
        """A node of `hub serve` with default settings, except for the maximum number of sockets and, unless wanted, rate limits."""
        environment = {"HUB_DATA": str(place.folder), "WEBSOCKET_MAX_CONNECTIONS": "100000"}
        if place.has_limits:
            environment["HUB_RATE_LIMITS"] = ""
        if place.has_archive:
            (place.folder / "archive").mkdir(exist_ok=True)
        return NodeProcess(place.redis_url, place.secret, workers=place.workers, **environment)

    def channel(self, name: str) -> str:
        """The prefix of a conversation's channel name."""
        return f"conversation:{name}"


PEERS: Final[dict[str, Peer]] = {peer.name: peer for peer in (ThisHub(), Centrifugo(), Nats(), SocketIo(), PlainHub())}


def chosen_peers(names: str) -> list[Peer]:
    """This hub and the named peers; `names` is separated by commas, or `all`.

    Raises:
        ValueError: a name is unknown; the text lists the known ones.
    """
    others = [name for name in PEERS if name != ThisHub.name]
    wanted = others if names == "all" else [name for name in names.split(",") if name and name != ThisHub.name]
    for name in wanted:
        if name not in PEERS:
            raise ValueError(f"there is no peer {name!r}; there are {', '.join(others)}, and all")
    return [PEERS[name] for name in (ThisHub.name, *wanted)]
