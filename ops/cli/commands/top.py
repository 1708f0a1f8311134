"""Show the rates, lag, connections and runs of nodes and workers, live."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ops.cli.failure import CommandFailed
from ops.cli.options import DEFAULT_DATA, Data, new_app
from ops.cli.output import is_terminal

if TYPE_CHECKING:
    from ops.cli.metrics_reading import MetricsReading

app = new_app()
_CLEAR: Final = "\x1b[H\x1b[J"


@app.command()
def top(
    url: Annotated[
        list[str] | None,
        typer.Option(
            "--url",
            help="A node, or a worker with --metrics-port; may be repeated.  [default: the hub running on the --data folder]",
            show_default=False,
        ),
    ] = None,
    interval: Annotated[float, typer.Option(help="Seconds between two readings.", min=0.1)] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print the figures of one interval, and exit.")] = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Read /metrics at an interval and show the changes, until Ctrl-C.

    On a terminal it is one screen; in a pipe, one JSON line per address and interval. Figures that an address does not serve are
    left out: connections and channels are a node's, runs and backlog a worker's. HUB_METRICS_TOKEN is sent if it is set.

    Example: hub top --url http://10.0.0.1:8000 --url http://10.0.0.2:9100
    """
    from ops.cli.running_hub import address_of

    addresses = url or [address_of("", data).url]
    token = os.environ.get("HUB_METRICS_TOKEN", "")
    before = {address: _read(address, token) for address in addresses}
    if all(reading is None for reading in before.values()):
        raise CommandFailed(f"no metrics at {', '.join(addresses)}: start a hub, or see --url")
    while True:
        time.sleep(interval)
        after = {address: _read(address, token) for address in addresses}
        _show(before, after)
        if once:
            return
        before = after


def _read(address: str, token: str) -> MetricsReading | None:
    """The metrics there; None if nothing answers, which the screen says."""
    from ops.cli.http_calls import http_call
    from ops.cli.metrics_reading import MetricsReading

    try:
        return MetricsReading.of(http_call(address, "/metrics", token).decode(), time.monotonic())
    except CommandFailed as refused:
        if not is_terminal():
            print(f"hub top: {refused}", file=sys.stderr)
        return None


def _show(before: dict[str, MetricsReading | None], after: dict[str, MetricsReading | None]) -> None:
    from ops.cli.metrics_reading import figures

    lines = [time.strftime("%H:%M:%S")]
    for address, now in after.items():
        old = before[address]
        found = figures(old, now) if old is not None and now is not None else {"trouble": "no figures"}
        if not is_terminal():
            print(json.dumps({"address": address, **found}), flush=True)
            continue
        lines += ["", address, *(f"  {name.replace('_per_s', '/s'):<16} {value:>12}" for name, value in found.items())]
    if is_terminal():
        print(_CLEAR + "\n".join(lines), flush=True)
