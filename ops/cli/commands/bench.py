"""Measure this machine: latency, round trips, deliveries, memory per connection."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ops.cli.options import new_app, run
from ops.cli.output import is_terminal

app = new_app()


@app.command()
def bench(
    seconds: Annotated[float, typer.Option(help="Duration of each measurement, in seconds.", min=0.5)] = 5.0,
    idle: Annotated[int, typer.Option(help="Number of idle connections for measuring memory.", min=100)] = 10_000,
) -> None:
    """Start a separate Redis and node, put load on them, and print each figure as soon as it is measured.

    Example: hub bench --seconds 2
    """
    run(_bench(seconds, idle))


async def _bench(seconds: float, idle: int) -> None:
    from ops.bench.run import bench_setup, commit

    facts: dict[str, object] = {"commit": commit()}

    def tell(name: str, value: object) -> None:
        facts[name] = value
        if is_terminal():
            print(f"{name:<28} {value}", flush=True)

    async with bench_setup(tell, seconds) as found:
        await found.run(idle)
    if not is_terminal():
        print(json.dumps(facts))
