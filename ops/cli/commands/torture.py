"""Prove that nothing is lost: break everything around the hub while people use it, and judge what they saw."""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from ops.cli.failure import EXIT_USAGE, CommandFailed
from ops.cli.options import new_app, run
from ops.torture.planted import read_bugs, try_bug
from ops.torture.powercut import simulate
from ops.torture.reliability import write_page as write_reliability_page
from ops.torture.run import Plan, Torture
from ops.torture.schedule import GROUPS
from ops.torture.servers import find_servers

app = new_app()
DEFAULT_GROUPS = "process,client,link,redis,clock,disk"


@app.command()
def torture(
    seconds: Annotated[float, typer.Option(help="Seconds during which faults are injected.", min=1)] = 60.0,
    seed: Annotated[int | None, typer.Option(help="Repeat an earlier run's schedule.")] = None,
    server: Annotated[str, typer.Option(help="The Redis: redis-6.2, redis-7.0, valkey-9 …  [default: any]")] = "",
    faults: Annotated[str, typer.Option(help=f"Groups of faults: {', '.join(GROUPS)}; or all.")] = DEFAULT_GROUPS,
    sentinels: Annotated[bool, typer.Option(help="Run with a replica, three Sentinels and real failovers.")] = False,
    durability: Annotated[str, typer.Option(help="HUB_DURABILITY of nodes and workers.")] = "fsync",
    rate: Annotated[float, typer.Option(help="Operations that each person begins per second.", min=0.1)] = 12.0,
    keep: Annotated[
        Path | None, typer.Option(help="Keep the history and the logs in this folder, whatever the verdict.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write the report as JSON here.")] = None,
    planted: Annotated[
        str, typer.Option(help="Instead: plant the bug of this name in a copy, and check that the verdict names it.")
    ] = "",
    power: Annotated[int, typer.Option(help="Instead: simulate a power cut after this many events.", min=0)] = 0,
    write_page: Annotated[bool, typer.Option(help="Instead: write ops/reliability.md from the kept results.")] = False,
) -> None:
    """Exit with 0 when the history is whole, with 1 and the proof when it is not."""
    if write_page:
        print(write_reliability_page())
        return
    chosen = random.SystemRandom().randrange(2**32) if seed is None else seed
    servers = find_servers()
    name = server or next(iter(sorted(servers)), "")
    if name not in servers:
        raise CommandFailed(
            f"there is no {name or 'Redis'} here; found: {', '.join(sorted(servers)) or 'none'}", EXIT_USAGE
        )
    groups = tuple(GROUPS) if faults == "all" else tuple(faults.split(","))
    if unknown := set(groups) - GROUPS.keys():
        raise CommandFailed(f"no such faults: {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}", EXIT_USAGE)
    if planted:
        _plant(planted, name, servers[name])
        return
    if power:
        _cut_power(power, servers[name], report)
        return
    plan = Plan(chosen, name, seconds, groups, has_sentinels=sentinels, durability=durability, rate_per_s=rate)
    folder = keep or Path(tempfile.mkdtemp(prefix="hub-torture-"))
    begun = time.monotonic()

    def tell(text: str) -> None:
        print(f"{time.monotonic() - begun:7.1f} s  {text}", file=sys.stderr)

    tell(f"seed {chosen}, {name}, faults: {', '.join(groups)}")
    attempt = Torture(plan, servers[name], folder, tell)
    found = run(attempt.run())
    if report is not None:
        report.write_text(json.dumps(found.to_json(), indent=1) + "\n")
    if found.is_whole:
        print(found.sentence())
        if keep is None:
            attempt.remove()
        return
    print(found.proof)
    raise CommandFailed(f"{found.sentence()}; seed {chosen}; the history is in {folder}")


def _plant(wanted: str, name: str, binary: Path) -> None:
    """Try the bugs whose names have this text in them; `all` tries every one."""
    bugs = [bug for bug in read_bugs() if wanted == "all" or wanted in bug.name]
    if not bugs:
        raise CommandFailed(f"no planted bug has {wanted} in its name; they are in ops/torture/bugs.toml", EXIT_USAGE)
    missed = 0
    for bug in bugs:
        with tempfile.TemporaryDirectory(prefix="hub-torture-") as folder:
            caught = run(try_bug(bug, bug.situation, name, binary, Path(folder), lambda _: None))
        missed += not caught.is_right
        print(f"{'named ' if caught.is_right else 'MISSED'}  {bug.name}: {caught.to_json()['said']}")
    if missed:
        raise CommandFailed(f"{missed} of {len(bugs)} planted bugs were not named")


def _cut_power(events: int, binary: Path, report: Path | None) -> None:
    """Simulate the loss of power under so many events, in memory: the order of things is the same as on a disk."""
    memory = Path("/dev/shm")  # noqa: S108 - a disk whose fdatasync costs nothing
    with tempfile.TemporaryDirectory(prefix="hub-torture-", dir=memory if memory.is_dir() else None) as folder:
        found = run(simulate(binary, Path(folder), events, 3, lambda text: print(text, file=sys.stderr)))
    if report is not None:
        report.write_text(json.dumps(found.to_json(), indent=1) + "\n")
    if found.lost_count:
        raise CommandFailed(f"{found.lost_count} of {found.acknowledged} events would be lost: {found.lost[0]}")
    print(
        f"{found.acknowledged:,} events acknowledged as fsync, 0 lost, {found.cut_in_fact} Redis started on a cut file"
    )
