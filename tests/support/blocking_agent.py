"""Agents that block their worker's loop: `HUB_AGENTS="block=support.blocking_agent:run"`, and workers that serve them as processes.

They block while the file `BLOCKING_AGENT_GATE` names is there, and write a line to `<gate>.begun` each time they begin.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from pathlib import Path

from consumers.agents import AgentInput, Back, Context, Item
from support.worker_process import ROOT

POLL_S = 0.01


async def run(ctx: Context, given: AgentInput) -> AsyncGenerator[Item, Back]:
    """A word, a blocked loop, another word. Only a first attempt blocks."""
    gate = Path(os.environ["BLOCKING_AGENT_GATE"])
    yield "before "
    await asyncio.sleep(0)
    if ctx.attempt == 1 and given.text == "block":
        begun(gate, f"{ctx.run_id}\n")
        while gate.exists():  # noqa: ASYNC240 - it is to block
            time.sleep(POLL_S)  # noqa: ASYNC251 - what it is for
    yield "after"


def begun(gate: Path, line: str = "") -> list[str]:
    """The runs that began to block, in turn; with one more."""
    file = gate.with_suffix(".begun")
    with file.open("a+") as lines:
        lines.write(line)
        lines.seek(0)
        return lines.read().split()


def start_blocking_worker(url: str, gate: Path, stall_max_s: float) -> subprocess.Popen[str]:
    """A worker that serves the agent as `a`; its log goes to a pipe. Whoever starts it kills it."""
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__)), url, str(stall_max_s)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"BLOCKING_AGENT_GATE": str(gate), "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.strip() == "up", line
    return process


async def _main(url: str, stall_max_s: float) -> None:
    from consumers.worker import run as run_worker
    from support.run_rig import options

    ready = asyncio.Event()
    chosen = options(url, {"a": run}, lease_ms=600, stall_max_s=stall_max_s)
    working = asyncio.create_task(run_worker(chosen, asyncio.Event(), ready))
    await ready.wait()
    print("up", flush=True)
    await working


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], float(sys.argv[2])))
