"""This hub as `hub serve` runs it, and every server it can be compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ops.bench.peers.centrifugo import Centrifugo
from ops.bench.peers.peer import BenchNode, Peer
from ops.children import NodeProcess


class ThisHub(Peer):
    """Always measured; the others are compared with it."""

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
        """Is installed."""

    def node(self, tools: Path, folder: Path, redis_url: str, secret: str, cores: int) -> BenchNode:  # noqa: ARG002 - every peer's arguments
        """`hub serve` with default settings, but for the rate limits and the number of sockets."""
        return NodeProcess(redis_url, secret, HUB_DATA=str(folder), WEBSOCKET_MAX_CONNECTIONS="100000")

    def channel(self, name: str) -> str:
        """A conversation."""
        return f"conversation:{name}"


PEERS: Final[dict[str, Peer]] = {peer.name: peer for peer in (ThisHub(), Centrifugo())}


def chosen_peers(names: str) -> list[Peer]:
    """This hub, and those that are named: separated by commas, or `all`.

    Raises:
        ValueError: an unknown name; the text says which are known.
    """
    others = [name for name in PEERS if name != ThisHub.name]
    wanted = others if names == "all" else [name for name in names.split(",") if name and name != ThisHub.name]
    for name in wanted:
        if name not in PEERS:
            raise ValueError(f"there is no peer {name!r}; there are {', '.join(others)}, and all")
    return [PEERS[name] for name in (ThisHub.name, *wanted)]
