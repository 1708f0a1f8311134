"""Prove that nothing is lost: cut clients and kill nodes while real logs are imported."""

from __future__ import annotations

import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from ops.cli.failure import CommandFailed
from ops.cli.options import new_app, run
from ops.embedded_redis.server import EmbeddedRedis
from ops.torture.plan import Plan, Report
from ops.torture.run import Torture
from ops.torture.sources import irc_sources, made_up_sources

app = new_app()
TENANT = "torture"


@app.command()
def torture(
    seconds: Annotated[float, typer.Option(help="How long things are broken.", min=1)] = 60.0,
    clients: Annotated[int, typer.Option(help="SDK clients that follow.", min=1)] = 50,
    nodes: Annotated[int, typer.Option(help="Hub nodes.", min=1)] = 2,
    cut_every: Annotated[
        float, typer.Option(help="Seconds between two cuts of one client, on average.", min=0.05)
    ] = 1.0,
    kill_every: Annotated[float, typer.Option(help="Seconds between two SIGKILLs of a node; 0 for none.", min=0)] = 5.0,
    redis_kill_every: Annotated[
        float, typer.Option(help="Seconds between two SIGKILLs of Redis; 0 for none.", min=0)
    ] = 0.0,
    data: Annotated[
        Path | None, typer.Option(help="A folder of IRC logs; made-up talk without it.", exists=True)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Repeat an earlier run's choices.")] = None,
) -> None:
    """Exit with 0 when every client's list of (seq, id, bytes) equals its stream; with 1, and where it differs, when not."""
    chosen = random.SystemRandom().randrange(2**32) if seed is None else seed
    plan = Plan(seconds, clients, nodes, cut_every, kill_every, redis_kill_every, seed=chosen)
    sources = irc_sources(data, TENANT) if data else made_up_sources(38, 1_200, TENANT, chosen)
    with tempfile.TemporaryDirectory(prefix="hub-torture-") as folder, EmbeddedRedis(folder, fsync="always") as redis:
        report: Report = run(Torture(plan, redis, sources, lambda text: print(text, file=sys.stderr)).run())
    print(json.dumps(report.to_json()))
    if not report.is_whole:
        raise CommandFailed(f"{len(report.faults)} clients saw something else than the stream (seed {chosen})")
