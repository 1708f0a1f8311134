"""Say how many nodes and Redis servers a hub of some size takes, by a model with measured figures."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from ops.cli.options import new_app

app = new_app()
_COUNT_MAX: Final = 10**9
_HOURS_MAX: Final = 10**6


@app.command()
def capacity(
    connections: Annotated[int, typer.Option(help="Number of connections.", min=1, max=_COUNT_MAX)] = 10_000,
    rate: Annotated[
        float, typer.Option(help="Stored events per second, of all people together.", min=0, max=_COUNT_MAX)
    ] = 100.0,
    readers: Annotated[
        float, typer.Option(help="Connections that each event is delivered to.", min=0, max=_COUNT_MAX)
    ] = 10.0,
    hot_hours: Annotated[
        float,
        typer.Option(help="Hours for which events stay in Redis before they are archived.", min=0, max=_HOURS_MAX),
    ] = 1.0,
) -> None:
    """Print a table, in Markdown. docs/operating/capacity.md has the figures and what the model leaves out.

    Example: hub capacity --connections 100000 --rate 1000
    """
    from ops.capacity import Demand, table

    print("\n".join(table([Demand(connections, rate, readers, hot_hours)])))
