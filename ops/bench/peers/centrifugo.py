"""Centrifugo with its Redis engine and history, installed from the Go module proxy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from ops.bench.peers.peer import BenchNode, Peer, PeerNode, Place, run_tool
from ops.embedded_redis.probe import free_port

VERSION: Final = "6.9.1"


class Centrifugo(Peer):
    """Centrifugo with default settings, plus history, recovery, and permission for clients to subscribe and publish."""

    name = "centrifugo"
    title = f"Centrifugo {VERSION} + Redis history"
    dialect = "centrifugo"
    keeps = (
        "Stores in Redis and publishes in one script, then acknowledges; recovers from the history, here 1,000 messages and "
        "600 s a channel."
    )
    lacks = (
        "A client that missed more than 300 messages is not recovered. No idempotency beyond one node's memory, no validation, "
        "no state, no history beyond its bounds."
    )

    def install(self, tools: Path) -> None:
        """Install it with `go install`."""
        if not (tools / "centrifugo").exists():
            module = f"github.com/centrifugal/centrifugo/v{VERSION.partition('.')[0]}@v{VERSION}"
            run_tool(self.title, ["go", "install", module], env={"GOBIN": str(tools)})

    def node(self, place: Place) -> BenchNode:
        """A node whose number of Go processors equals its number of cores."""
        port = free_port()
        channels = {
            "history_size": 1_000,
            "history_ttl": "600s",
            "force_recovery": True,
            "allow_publish_for_client": True,
            "allow_subscribe_for_client": True,
        }
        settings = {
            "http_server": {"address": "127.0.0.1", "port": str(port)},
            "log": {"level": "error"},
            "client": {"allowed_origins": ["*"], "token": {"hmac_secret_key": place.secret}},
            "engine": {"type": "redis", "redis": {"address": place.redis_url}},
            "usage_stats": {"disabled": True},
            "channel": {"without_namespace": channels},
        }
        path = place.folder / f"centrifugo-{port}.json"
        path.write_text(json.dumps(settings))
        return PeerNode(
            self.title, port, [str(place.tools / "centrifugo"), "-c", str(path)], {"GOMAXPROCS": str(place.cores)}
        )
