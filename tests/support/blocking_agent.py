"""An agent that blocks its worker's event loop, and worker processes that serve it.

HUB_AGENTS="block=support.blocking_agent:run". The agent blocks while the file named by `BLOCKING_AGENT_GATE` exists, and adds a
line to `<gate>.begun` each time it begins to block.
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
    """Yields a word, blocks the loop, yields another word. Only a run's first attempt blocks."""
    gate = Path(os.environ["BLOCKING_AGENT_GATE"])
    yield "before "
    await asyncio.sleep(0)
    if ctx.attempt == 1 and given.text == "block":
        begun(gate, f"{ctx.run_id}\n")
        while gate.exists():  # noqa: ASYNC240 - it is to block
            time.sleep(POLL_S)  # noqa: ASYNC251 - what it is for
    yield "after"


def begun(gate: Path, line: str = "") -> list[str]:
    """The runs that began to block, in order; `line`, if given, is added first."""
    file = gate.with_suffix(".begun")
    with file.open("a+") as lines:
        lines.write(line)
        lines.seek(0)
        return lines.read().split()


def start_blocking_worker(url: str, gate: Path, stall_max_s: float) -> subprocess.Popen[str]:
    """Start a worker that serves the agent as `a`, with its log in a pipe. The caller must kill it."""
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
