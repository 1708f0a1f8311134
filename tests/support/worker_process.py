"""A worker in a process of its own, to be killed: `python worker_process.py URL`. It serves an agent with a fixed answer."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
WORDS = [f"word{number} " for number in range(60)]
PACE_S = 0.01


class Talker:
    """An agent that yields sixty words, with a tool and a recorded step in the middle, always the same.

    The first attempt stops before the last words and waits until its worker is killed.
    """

    async def run(self, ctx: Any, given: Any) -> Any:
        from consumers.agents import ToolCall

        for word in WORDS[:20]:
            yield word
            await asyncio.sleep(PACE_S)
        found = yield ToolCall("look", {}, self._look, is_idempotent=True)
        yield f"{found.output} "
        for word in WORDS[20:40]:
            yield word
            await asyncio.sleep(PACE_S)
        await ctx.step("half", self._half)
        for word in WORDS[40:]:
            yield word
            await asyncio.sleep(PACE_S)
            if ctx.attempt == 1 and word == WORDS[-3]:
                await asyncio.Event().wait()

    async def _look(self, args: Any, tool: Any) -> Any:
        await asyncio.sleep(PACE_S)
        return "seen"

    async def _half(self) -> Any:
        return 1


SAID = "".join(WORDS[:20]) + "|seen " + "".join(WORDS[20:])


def start_worker(url: str) -> subprocess.Popen[str]:
    """Start a worker and wait until it is ready. The caller must kill it."""
    process = subprocess.Popen([sys.executable, str(Path(__file__)), url], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.strip() == "up", line
    return process


def end_worker(process: subprocess.Popen[str], number: signal.Signals = signal.SIGKILL) -> None:
    """Send the signal and wait until the process has ended."""
    process.send_signal(number)
    process.wait(timeout=40)
    if process.stdout is not None:
        process.stdout.close()


async def _main(url: str) -> None:
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    from consumers.worker import run
    from support.run_rig import options

    stop, ready = asyncio.Event(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    working = asyncio.create_task(run(options(url, {"a": Talker()}), stop, ready))
    await ready.wait()
    print("up", flush=True)
    await working


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1]))
