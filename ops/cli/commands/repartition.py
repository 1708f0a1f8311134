"""Move the log to another number of partitions, while no node and no worker runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ops.cli.options import DEFAULT_DATA, Data, Redis, new_app, run

app = new_app()


@app.command()
def repartition(
    partitions: Annotated[int, typer.Argument(help="The new number of partitions.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be moved.")] = False,
    redis: Redis = "",
    data: Data = DEFAULT_DATA,
) -> None:
    """Move every key to the new partitions; cursors, command ids, work, runs and the archive stay as they are.

    Stop all nodes and workers first. If it is cut off, run it again: until it has ended, no node and no worker starts.

    Example: hub repartition 32 --redis redis://localhost:6379/0
    """
    run(_repartition(partitions, redis, data, is_dry=dry_run))


async def _repartition(partitions: int, redis: str, data: Path, *, is_dry: bool) -> None:
    from ops.cli.log_access import own_writer, present_redis_at
    from streams.records.writers import EVERYTHING, holding
    from streams.redis.repartition import Repartition

    def tell(step: str, done: int, total: int) -> None:
        print(f"{step}: {done:,} of {total:,} keys", file=sys.stderr)

    with present_redis_at(redis, data) as address:
        work = Repartition(address, partitions, tell)
        try:
            if is_dry:
                move, census = await work.plan()
                begun = f"; it was cut off in the step `{move.step}` and would go on there" if move.step else ""
                print(
                    f"would move {census.channels:,} channels with {census.events:,} events in {census.keys:,} keys "
                    f"from {len(move.old)} to {len(move.new)} partitions{begun}"
                )
                return
            async with holding(address, own_writer("hub repartition", EVERYTHING, is_alone=True)):
                move = await work.carry_out()
        finally:
            work.close()
    print(
        f"{move.channels:,} channels with {move.events:,} events are in {len(move.new)} partitions now: "
        f"set HUB_PARTITIONS={len(move.new)} for every node and worker, then run `hub audit verify --all` for each tenant"
    )
