"""Compares a node with all telemetry on with one that has none: `python -m ops.bench.telemetry [PAIRS] [NAME=VALUE …]`.

Two nodes, each with its own Redis and load generator, share a core and take turns of half a second, so that other work on the
machine meets both alike; a pair is ten turns of each. The figure is the CPU time of a node's process per durable round trip.

On: HUB_TRACING=0.01 with spans exported over OTLP to a collector that accepts them, Sentry, a second port, a rollout with two
variants, and a scrape of OpenMetrics each pair, that is each 5 s of load. Off: none of these, and only errors are logged.
Arguments `NAME=VALUE` replace the settings of the node that is on. Counters and histograms have no switch and are in both.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from typing import Final

from hub.auth.signing import sign
from ops.bench.generator import Generator
from ops.bench.processes import Cores, pin, used_by
from ops.bench.setup import write_tokens
from ops.children import Child, NodeProcess, module
from ops.embedded_redis.probe import free_port
from ops.embedded_redis.server import EmbeddedRedis

CLIENTS: Final = 100
TURNS: Final = 10
TURN_S: Final = 0.5
_ROLLOUT: Final = {"variants": [{"name": "blue", "percent": 50}, {"name": "green", "percent": 50}]}
_SECRET: Final = secrets.token_hex(24)


class _Accepting(BaseHTTPRequestHandler):
    """Accepts whatever is posted, as a collector does."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Reads the body and answers 200."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Writes nothing."""


@dataclass(frozen=True, slots=True)
class Side:
    """A running node with its load."""

    node: NodeProcess
    generator: Generator

    async def turn(self) -> None:
        """Loads the node for one turn: each client writes its next message when the previous one has been delivered to it."""
        await self.generator.command("send", group="crowd", every=1, window=1, seconds=TURN_S)
        await self.generator.command("quiet")

    async def reset(self) -> float:
        """Resets the counts; returns the node's CPU time so far."""
        await self.generator.command("reset")
        return used_by(self.node.pid).cpu_s

    async def cost_us(self, before_s: float) -> float:
        """The node's CPU time in µs for each round trip since `reset`."""
        used_s = used_by(self.node.pid).cpu_s - before_s
        return used_s * 1e6 / (await self.generator.command("quiet")).groups["crowd"].round_trips


@contextlib.asynccontextmanager
async def _side(folder: Path, cores: Cores, environment: dict[str, str]) -> AsyncIterator[Side]:
    async with contextlib.AsyncExitStack() as running:
        redis = EmbeddedRedis(folder / "redis", port=free_port(), is_guarded=False, is_persistent=False)
        running.callback(redis.stop)
        redis.start()
        pin(redis.pid, cores.others)
        node = NodeProcess(redis.url, _SECRET, workers=1, HUB_DATA=str(folder), **environment)
        running.callback(node.kill)
        node.start()
        await node.ready()
        pin(node.pid, cores.servers)
        tokens = folder / "tokens"
        write_tokens(tokens, _SECRET, "bench", CLIENTS)
        if environment.get("HUB_ADMIN_PORT"):
            _put_rollout(int(environment["HUB_ADMIN_PORT"]))
        generator = await Generator.start("hub", tokens)
        running.push_async_callback(generator.stop)
        pin(generator.pid, cores.others)
        await generator.command("group", group="crowd", count=CLIENTS, join="conversation:room/1", ports=str(node.port))
        yield Side(node, generator)


def _put_rollout(port: int) -> None:
    token = sign(_SECRET, "operator", "bench", {}, 600, time.time(), scope="operator")
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/rollout",
        json.dumps(_ROLLOUT).encode(),
        {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        method="PUT",
    )
    urllib.request.urlopen(request, timeout=10).close()  # noqa: S310 - our own loopback URL


def _scrape(port: int) -> None:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/metrics", headers={"Accept": "application/openmetrics-text"}
    )
    urllib.request.urlopen(request, timeout=10).read()  # noqa: S310 - our own loopback URL


@contextlib.contextmanager
def _collector(cores: Cores) -> Iterator[int]:
    """Yields the port of a collector in a process of its own."""
    port = free_port()
    child = Child("the collector", module("ops.bench.telemetry", "--collector", str(port)), {})
    try:
        pin(child.pid, cores.others)
        yield port
    finally:
        child.kill()


def everything(collector: int) -> dict[str, str]:
    """The settings of a node with all telemetry on."""
    return {
        "HUB_TRACING": "0.01",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector}",
        "HUB_SENTRY_DSN": f"http://key@127.0.0.1:{collector}/1",
        "HUB_ADMIN_PORT": str(free_port()),
        "HUB_LOG_LEVEL": "info",
    }


async def main(pairs: int, changes: dict[str, str]) -> None:
    """Measures; prints a line each pair, and one JSON object at the end."""
    cores, costs, ratios = Cores.split(), {"off": [], "on": []}, []  # type: tuple[Cores, dict[str, list[float]], list[float]]
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as name, _collector(cores) as collector:
        folder = Path(name)
        for one in ("off", "on"):
            (folder / one).mkdir()
        settings = {name: value for name, value in (everything(collector) | changes).items() if value}
        async with (
            _side(folder / "off", cores, {"HUB_LOG_LEVEL": "error"}) as off,
            _side(folder / "on", cores, settings) as on,
        ):
            sides = {"off": off, "on": on}
            for side in sides.values():
                await side.turn()
            for number in range(pairs):
                before = {one: await side.reset() for one, side in sides.items()}
                for turn in range(TURNS):
                    for one in ("off", "on") if (number + turn) % 2 else ("on", "off"):
                        await sides[one].turn()
                await asyncio.to_thread(_scrape, int(settings.get("HUB_ADMIN_PORT", on.node.port)))
                for one, side in sides.items():
                    costs[one].append(await side.cost_us(before[one]))
                ratios.append(costs["on"][-1] / costs["off"][-1])
                print(
                    f"{ratios[-1]:.3f}: {costs['on'][-1]:.1f} µs, {costs['off'][-1]:.1f} µs",
                    file=sys.stderr,
                    flush=True,
                )
    figures = {one: round(median(found), 1) for one, found in costs.items()}
    print(
        json.dumps(
            {"cpu_us": figures, "ratio": round(median(ratios), 3), "ratios": [round(one, 3) for one in sorted(ratios)]}
        )
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--collector"]:
        ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), _Accepting).serve_forever()
    else:
        given = dict(one.split("=", 1) for one in sys.argv[2:])
        asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 9, given))
