"""Measure this machine, and compare the hub with other servers on it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.failure import EXIT_USAGE, CommandFailed
from ops.cli.options import new_app, run

if TYPE_CHECKING:
    from ops.bench.run import Comparison
    from ops.bench.summary import Row

app = new_app()


@app.command()
def bench(
    scenarios: Annotated[
        list[str] | None, typer.Argument(help="Scenarios to run, fanout_* for several.  [default: all]")
    ] = None,
    peers: Annotated[
        str, typer.Option(help="Servers to compare with, separated by commas, or all; they are installed.")
    ] = "",
    runs: Annotated[int, typer.Option(help="Rounds, in which the servers take turns.", min=1)] = 1,
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes, for a first impression.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Large sizes, for figures to be quoted.")] = False,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="SIZE=NUMBER", help="Change a size.", show_default=False)
    ] = None,
    output: Annotated[
        Path, typer.Option(help="Folder of result.json and result.html, written after every run.")
    ] = Path("bench-result"),
    tools: Annotated[
        Path | None, typer.Option(help="Folder of installed peers.  [default: in ~/.cache]", show_default=False)
    ] = None,
    aof: Annotated[bool, typer.Option("--aof/--no-aof", help="Give every server's Redis an append-only file.")] = True,
    lists: Annotated[bool, typer.Option("--list", help="Show scenarios, sizes and servers, and exit.")] = False,
) -> None:
    """Run scenarios on processes started for them; print the figures of each as soon as they are known.

    Example: hub bench 'fanout_*' --quick
    """
    from ops.bench.generator import cache_folder
    from ops.bench.listing import comparison_lines, listing
    from ops.bench.peers.all_peers import chosen_peers
    from ops.bench.run import BenchPlan
    from ops.bench.run import run as run_plan
    from ops.bench.scenarios.all_scenarios import chosen_scenarios
    from ops.bench.sizes import FULL, QUICK, USUAL, with_changes

    if lists:
        print(listing())
        return
    if quick and full:
        raise CommandFailed("choose one of --quick and --full", EXIT_USAGE)
    try:
        sizes = with_changes(QUICK if quick else FULL if full else USUAL, changes or [])
        chosen = chosen_scenarios(scenarios or [], is_quick=quick), chosen_peers(peers)
    except ValueError as refused:
        raise CommandFailed(str(refused), EXIT_USAGE) from refused
    plan = BenchPlan(*chosen, sizes, runs, (tools or cache_folder() / "peers").absolute(), is_persistent=aof)
    output.mkdir(parents=True, exist_ok=True)
    result = run(run_plan(plan, _Screen(output)))
    print("\n".join(comparison_lines(result)))
    if not result.rows or any(row.error for row in result.rows):
        raise CommandFailed("not every scenario could be run; the lines above say why")


class _Screen:
    """Shows a progress line on a terminal and the figures as they are measured, and writes the two result files."""

    def __init__(self, output: Path) -> None:
        self._output = output
        self._width = 0

    def progress(self, text: str) -> None:
        """Replace the progress line."""
        if sys.stderr.isatty():
            shown = text[:150]
            print(f"\r{shown:<{self._width}}\r", end=shown, file=sys.stderr, flush=True)
            self._width = len(shown)

    def row(self, row: Row, result: Comparison) -> None:
        """Print the figures of a run, and write all results so far."""
        from ops.bench.listing import row_lines
        from ops.bench.page import to_html

        (self._output / "result.json").write_text(result.to_json(), encoding="utf-8")
        (self._output / "result.html").write_text(to_html(result), encoding="utf-8")
        self.progress("")
        print("\n".join(row_lines(row)), flush=True)
