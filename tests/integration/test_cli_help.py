"""`--help` of every command: fast, since nothing is imported that only running the command needs, and with an example."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from ops.cli import known_commands
from support.hub_process import PROGRAM, clean_environment

ROOT = Path(__file__).parents[2]
HEAVY = (
    "asyncio",
    "boto3",
    "cryptography",
    "fastapi",
    "httpx",
    "logging",
    "prometheus_client",
    "pydantic",
    "redis",
    "rich",
)
OURS = frozenset({"consumers", "hub", "projections", "streams"})
CPU_S = 0.6
"""Four times of what is asked of it, for a machine that does other things meanwhile."""
WALK = """
import contextlib, importlib, io, json, sys
from ops.cli import known_commands, main

def help_of(*words):
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        main([*words, "--help"])
    return out.getvalue()

shown = {name: help_of(name) for name in known_commands()}
import typer.main
for name in known_commands():
    file = f"ops.cli.commands.{name}"
    command = typer.main.get_command((sys.modules.get(file) or sys.modules[f"{file}_"]).app)
    for inner in getattr(command, "commands", ()):
        shown[f"{name} {inner}"] = help_of(name, inner)
print(json.dumps({"shown": shown, "imported": sorted(sys.modules)}))
"""


@cache
def walked() -> dict[str, Any]:
    """The help of all commands and of their own commands, from one process, and the modules it has imported by then."""
    done = subprocess.run(
        [sys.executable, "-c", WALK], cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=True
    )
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_help_imports_nothing_that_only_running_needs() -> None:
    """No command does: neither a large library nor a package of the hub's but `ops`."""
    imported = walked()["imported"]

    assert [name for name in HEAVY if name in imported] == []
    assert [name for name in imported if name.partition(".")[0] in OURS] == []


def test_every_help_has_an_example_of_its_command() -> None:
    """Those of inner commands too; a command that must be told more is shown with it."""
    shown = walked()["shown"]

    assert set(known_commands()) < shown.keys()
    assert {"audit verify", "import irc", "parked retry"} < shown.keys()
    for name, text in shown.items():
        assert f"Usage: hub {name}" in text
        assert f"hub {name}" in text.partition("Example")[2], name


def test_help_is_fast() -> None:
    """By the processor's time, and with a generous limit; what is imported is the exact test."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([*PROGRAM, "key", "--help"], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)

    assert after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime < CPU_S
