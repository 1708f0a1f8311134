"""A small model of what a hub of a given size needs, fed by measured figures that are kept here alone. Pure.

`hub capacity` prints it, `docs/operating/capacity.md` shows it, and `python -m ops.bench.capacity_check` compares it with this
machine at two sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final


@dataclass(frozen=True, slots=True)
class Figures:
    """The measured figures, of one core of a virtual machine with 2 cores, uncompiled Python, 27 November 2026.

    Attributes:
        node_bytes: a node without connections.
        connection_node_bytes: an idle connection with three channels, in the node; `connection_redis_bytes`, in Redis.
        event_node_us: processor time of the node for an event that is stored and answered; `event_redis_us`, of Redis, with
            batches of about 50.
        delivery_node_us: processor time of the node for each further delivery, in channels of ten.
        event_redis_bytes: memory of Redis for a stored chat message.
        event_wire_bytes: bytes of such an event on a socket.
        idle_node_redis_us: processor time of Redis for a node that does nothing, a second.
    """

    node_bytes: int = 90_000_000
    connection_node_bytes: int = 9_000
    connection_redis_bytes: int = 1_000
    event_node_us: float = 118.0
    event_redis_us: float = 55.0
    delivery_node_us: float = 2.6
    event_redis_bytes: int = 500
    event_wire_bytes: int = 350
    idle_node_redis_us: float = 800.0


MEASURED: Final = Figures()


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices to reckon with, in dollars. They are an example and no provider's list."""

    core_hour: float = 0.04
    gigabyte_hour: float = 0.005
    gigabyte_out: float = 0.08


EXAMPLE_PRICES: Final = Prices()
HOURS_A_MONTH: Final = 730
FULL: Final = 0.5
"""Share of a core, or of a server's memory, that is planned for: the rest is for peaks, and for those that take over from one lost.
"""
NODE_BYTES_MAX: Final = 4 * 10**9
PRIMARY_BYTES_MAX: Final = 32 * 10**9
CONNECTIONS_MAX: Final = 50_000
"""Connections that a node is planned for at most: all of them come back at once when it is lost."""


@dataclass(frozen=True, slots=True)
class Demand:
    """A demand on a hub.

    Attributes:
        rate_per_s: stored events a second, of all people together.
        readers: connections that each event is delivered to.
        hot_hours: hours for which events stay in Redis before they are archived.
    """

    connections: int
    rate_per_s: float
    readers: float = 10.0
    hot_hours: float = 1.0


@dataclass(frozen=True, slots=True)
class Need:
    """The servers that a demand takes.

    Attributes:
        nodes: node processes, of a core each; `primaries`, Redis servers of a core each, without replicas.
        nodes_by, primaries_by: what determines their number.
        node_bytes, primary_bytes: memory of each.
        out_bytes_s: bytes a second to clients, uncompressed.
        monthly: dollars a month at example prices, with a replica for each primary.
    """

    nodes: int
    nodes_by: str
    node_bytes: int
    primaries: int
    primaries_by: str
    primary_bytes: int
    out_bytes_s: float
    monthly: float


def need_of(demand: Demand, figures: Figures = MEASURED, prices: Prices = EXAMPLE_PRICES) -> Need:
    """The need by the model: the largest of what connections, processor time and memory ask for."""
    deliveries_per_s = demand.rate_per_s * demand.readers
    node_us = demand.rate_per_s * figures.event_node_us + deliveries_per_s * figures.delivery_node_us
    nodes, nodes_by = _largest(
        {
            "connections": demand.connections / CONNECTIONS_MAX,
            "processor": node_us / 1e6 / FULL,
            "memory": demand.connections * figures.connection_node_bytes / (NODE_BYTES_MAX * FULL),
        }
    )
    stored_bytes = demand.rate_per_s * demand.hot_hours * 3_600 * figures.event_redis_bytes
    redis_bytes = stored_bytes + demand.connections * figures.connection_redis_bytes
    redis_us = demand.rate_per_s * figures.event_redis_us + nodes * figures.idle_node_redis_us
    primaries, primaries_by = _largest(
        {"processor": redis_us / 1e6 / FULL, "memory": redis_bytes / (PRIMARY_BYTES_MAX * FULL)}
    )
    node_bytes = figures.node_bytes + ceil(demand.connections / nodes) * figures.connection_node_bytes
    primary_bytes = ceil(redis_bytes / primaries)
    out_bytes_s = deliveries_per_s * figures.event_wire_bytes
    gigabytes = (nodes * node_bytes + 2 * primaries * primary_bytes) / FULL / 1e9
    hourly = (nodes + 2 * primaries) * prices.core_hour + gigabytes * prices.gigabyte_hour
    monthly = (hourly + out_bytes_s * 3_600 / 1e9 * prices.gigabyte_out) * HOURS_A_MONTH
    return Need(nodes, nodes_by, node_bytes, primaries, primaries_by, primary_bytes, out_bytes_s, monthly)


def _largest(by: dict[str, float]) -> tuple[int, str]:
    name = max(by, key=by.__getitem__)
    return max(1, ceil(by[name])), name


def table(demands: Sequence[Demand]) -> list[str]:
    """The needs as a table in Markdown."""
    head = (
        "connections", "events/s", "nodes (by)", "memory of each", "primaries (by)", "memory of each", "to clients", "$ a month",
    )  # fmt: skip # the head of a table
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for demand in demands:
        need = need_of(demand)
        cells = (
            f"{demand.connections:,}",
            f"{demand.rate_per_s:,.0f}",
            f"{need.nodes:,} ({need.nodes_by})",
            f"{need.node_bytes / 1e6:,.0f} MB",
            f"{need.primaries:,} ({need.primaries_by})",
            f"{need.primary_bytes / 1e9:,.1f} GB",
            f"{need.out_bytes_s * 8 / 1e6:,.0f} Mbit/s",
            f"{need.monthly:,.0f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


SHOWN: Final = tuple(Demand(count, count / 100) for count in (10_000, 100_000, 1_000_000, 10_000_000))
"""The sizes on the page: every hundredth connection writes once a second."""
