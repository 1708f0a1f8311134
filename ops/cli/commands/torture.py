"""Test that no event is lost: break everything around the hub while simulated people use it, and check what they saw."""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ops.cli.failure import EXIT_USAGE, CommandFailed
from ops.cli.options import new_app, run
from ops.torture.schedule import GROUPS

if TYPE_CHECKING:
    from ops.torture.deployment import Deployment, Target
    from ops.torture.run import Plan

app = new_app()
DEFAULT_GROUPS = "process,client,link,redis,clock,disk"
NEVER_MS: Final = 1e9
"""A bound that is never reached, in milliseconds: when presence converges depends on the deployment's unknown heartbeat interval.
"""
DEPLOYMENT_RATE_PER_S: Final = 3.0
"""Operations per second and person: below a deployment's default rate limits."""
DEPLOYMENT_EXPECTS: Final = (
    "acknowledged",
    "commands",
    "deliveries",
    "states",
    "pages",
    "seqs compared",
    "readers followed to the end",
)


@app.command()
def torture(
    seconds: Annotated[float, typer.Option(help="Time, in seconds, during which faults are injected.", min=1)] = 60.0,
    seed: Annotated[
        int | None, typer.Option(help="Repeat the schedule of an earlier run that printed this seed.")
    ] = None,
    server: Annotated[
        str, typer.Option(help="The server to use: redis-6.2, redis-7.0, valkey-9 …  [default: any]")
    ] = "",
    faults: Annotated[
        str, typer.Option(help=f"Groups of faults, separated by commas: {', '.join(GROUPS)}; or all.")
    ] = DEFAULT_GROUPS,
    sentinels: Annotated[bool, typer.Option(help="Run with a replica, three Sentinels and real failovers.")] = False,
    cluster: Annotated[
        bool,
        typer.Option(help="Run with a Redis Cluster of three primaries and three replicas; adds the faults `shards`."),
    ] = False,
    durability: Annotated[str, typer.Option(help="The value of HUB_DURABILITY for nodes and workers.")] = "fsync",
    rate: Annotated[
        float, typer.Option(help="Number of operations that each simulated person begins per second.", min=0.1)
    ] = 12.0,
    url: Annotated[
        str, typer.Option(help="Test the deployment at these node URLs, separated by commas, instead of a new cluster.")
    ] = "",
    redis: Annotated[
        str, typer.Option(envvar="REDIS_URL", help="With --url: the Redis of the deployment.", show_default=False)
    ] = "",
    redis_faults: Annotated[
        bool, typer.Option(help="With --url: inject faults into its Redis too, which affect all its users.")
    ] = False,
    agent: Annotated[
        str, typer.Option(help="With --url: an agent of the deployment to which questions are sent.")
    ] = "",
    keep: Annotated[
        Path | None, typer.Option(help="Keep the history and the logs in this folder, even if the run passes.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write the report to this file, as JSON.")] = None,
    planted: Annotated[
        str,
        typer.Option(
            help="Test the checker: put the bug of this name into a copy of the code, and expect it to be found."
        ),
    ] = "",
    power: Annotated[
        int,
        typer.Option(
            help="Instead of the test, simulate power cuts while this many events are stored; 0 runs the test.", min=0
        ),
    ] = 0,
    write_page: Annotated[
        bool, typer.Option(help="Only write ops/reliability.md from the results in ops/torture/results.")
    ] = False,
) -> None:
    """Run the test; exit with 0 if nothing was lost, and with 1 and the evidence otherwise.

    With --url, HUB_JWT_SECRET signs the tokens, which belong to two tenants created for the run; HUB_JWT_AUDIENCE and
    HUB_JWT_ISSUER are applied as well.

    Example: hub torture --seconds 120 --keep /tmp/torture
    """
    from ops.torture.reliability import write_page as write_reliability_page
    from ops.torture.run import Plan, cluster_of

    if write_page:
        print(write_reliability_page())
        return
    chosen = random.SystemRandom().randrange(2**32) if seed is None else seed
    groups = tuple(GROUPS) if faults == "all" else tuple(faults.split(","))
    if unknown := set(groups) - GROUPS.keys():
        raise CommandFailed(f"no such faults: {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}", EXIT_USAGE)
    if sentinels and cluster:
        raise CommandFailed("--sentinels and --cluster exclude each other", EXIT_USAGE)
    if cluster and faults == DEFAULT_GROUPS:
        groups = ("process", "client", "link", "redis", "shards")
    folder = keep or Path(tempfile.gettempdir()) / f"hub-torture-{os.getpid()}"
    if url:
        plan = Plan(
            chosen,
            "deployment",
            seconds,
            groups,
            rate_per_s=min(rate, DEPLOYMENT_RATE_PER_S),
            expects=DEPLOYMENT_EXPECTS,
            waits_for_presence=False,
            bounds={"presence_ms": NEVER_MS},
        )
        _carry_out(plan, _deployment(folder, url, redis, chosen, agent, breaks_redis=redis_faults), keep, report)
        return
    name, binary = _server(server)
    if planted:
        _plant(planted, name, binary)
    elif power:
        _cut_power(power, binary, report)
    else:
        plan = Plan(
            chosen,
            name,
            seconds,
            groups,
            has_sentinels=sentinels,
            is_cluster=cluster,
            durability=durability,
            rate_per_s=rate,
        )
        _carry_out(plan, cluster_of(plan, binary, folder), keep, report)


def _server(wanted: str) -> tuple[str, Path]:
    """The server with this name, or any if the name is empty."""
    from ops.torture.servers import find_servers

    servers = find_servers()
    name = wanted or next(iter(sorted(servers)), "")
    if name not in servers:
        found = ", ".join(sorted(servers)) or "none"
        raise CommandFailed(f"there is no {name or 'Redis'} here; found: {found}", EXIT_USAGE)
    return name, servers[name]


def _deployment(folder: Path, url: str, redis: str, seed: int, agent: str, *, breaks_redis: bool) -> Deployment:
    """The deployment given by options and environment. A warning states what the run will do to it."""
    from ops.torture.deployment import Deployment

    secret = os.environ.get("HUB_JWT_SECRET", "")
    if not redis or not secret:
        raise CommandFailed("--url needs --redis (or REDIS_URL) and HUB_JWT_SECRET", EXIT_USAGE)
    named = {"aud": os.environ.get("HUB_JWT_AUDIENCE", ""), "iss": os.environ.get("HUB_JWT_ISSUER", "")}
    claims = {name: value for name, value in named.items() if value}
    made = Deployment(
        folder, url.split(","), redis, secret, seed, agent=agent, claims=claims, breaks_redis=breaks_redis
    )
    tenants = " and ".join(made.tenants)
    print(f"This run writes into {url}, in the tenants {tenants}; what it writes stays there.", file=sys.stderr)
    if breaks_redis:
        print(
            f"FAULTS WILL BE INJECTED INTO ITS REDIS, for all users of {url}: full, read-only, busy.", file=sys.stderr
        )
    return made


def _carry_out(plan: Plan, target: Target, keep: Path | None, report: Path | None) -> None:
    """Carry out one run and report its progress. The history is kept if a fault of the hub was found."""
    from ops.torture.run import Torture

    begun = time.monotonic()

    def tell(text: str) -> None:
        print(f"{time.monotonic() - begun:7.1f} s  {text}", file=sys.stderr)

    tell(f"seed {plan.seed}, {plan.server}, faults: {', '.join(plan.groups)}")
    attempt = Torture(plan, target, tell)
    try:
        found = run(attempt.run())
    finally:
        attempt.kill()
    if report is not None:
        report.write_text(json.dumps(found.to_json(), indent=1) + "\n")
    for name, why in found.skipped.items():
        tell(f"skipped: {name}: {why}")
    if found.is_whole:
        print(found.sentence())
        if keep is None:
            attempt.remove()
        return
    print(found.proof)
    raise CommandFailed(f"{found.sentence()}; seed {plan.seed}; the history is in {target.folder}")


def _plant(wanted: str, name: str, binary: Path) -> None:
    """Try the planted bugs whose names contain this text; `all` tries every one."""
    from ops.torture.planted import read_bugs, try_bug

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
    """Simulate power cuts while this many events are stored, in memory: the order of writes and syncs is the same as on a disk."""
    from ops.torture.powercut import simulate

    memory = Path("/dev/shm")  # noqa: S108 - a disk whose fdatasync costs nothing
    with tempfile.TemporaryDirectory(prefix="hub-torture-", dir=memory if memory.is_dir() else None) as folder:
        found = run(simulate(binary, Path(folder), events, 3, lambda text: print(text, file=sys.stderr)))
    if report is not None:
        report.write_text(json.dumps(found.to_json(), indent=1) + "\n")
    if found.lost_count:
        raise CommandFailed(f"{found.lost_count} of {found.acknowledged} events would be lost: {found.lost[0]}")
    print(
        f"{found.acknowledged:,} events acknowledged as fsync, 0 lost; Redis started {found.cut_in_fact} times on a truncated file"
    )
