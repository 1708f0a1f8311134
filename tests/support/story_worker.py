"""The worker of the scripted conversation, as a process: `python story_worker.py REDIS_URL DATA_DIR [lost]`.

It serves the demo agent, and an agent that does on demand what the script needs. With `lost`, that agent stops in the middle of
a long answer, so that killing the process there always leaves the same log.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


class Actor:
    """An agent that, depending on its input, calls tools, waits until it is stopped, or gives a long answer."""

    is_interactive = True

    def __init__(self, *, is_lost: bool) -> None:
        self._is_lost = is_lost

    async def run(self, ctx: Any, given: Any) -> Any:
        """Act as the input's text requests."""
        from consumers.agents import Output, Reasoning, Result, ToolCall

        if given.text == "hang":
            yield "So far so "
            await asyncio.Event().wait()
        elif given.text == "a long answer":
            yield "The first half. "
            if self._is_lost:
                await asyncio.Event().wait()
            yield "The second half."
        else:
            yield Reasoning("Two tools, then.")
            yield "Working. "
            found = yield ToolCall("count", {"upto": 3}, count, title="Count to three", is_idempotent=True)
            yield Output("json", {"counted": found.output}, "counts")
            failed = yield ToolCall("break", {}, fail)
            yield f"Counted to {found.output}; the other one {failed.error}."
            yield Result({"counted": found.output})


async def count(args: Any, tool: Any) -> Any:
    """A tool that reports its progress."""
    tool.progress(1, args["upto"], "one")
    return args["upto"]


async def fail(args: Any, tool: Any) -> Any:
    """A tool that always fails."""
    raise ValueError("out of order")


def start(redis_url: str, data_dir: str, *, is_lost: bool) -> subprocess.Popen[str]:
    """Start a worker; `wait_up` waits until it is ready. The caller must kill it."""
    arguments = [sys.executable, str(Path(__file__)), redis_url, data_dir, *(["lost"] if is_lost else [])]
    return subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def wait_up(process: subprocess.Popen[str]) -> None:
    """Wait until the worker is ready."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.strip() == "up", line


def kill(process: subprocess.Popen[str]) -> None:
    """Kill the process with SIGKILL if it is running."""
    process.kill()
    process.wait(20)
    if process.stdout is not None:
        process.stdout.close()


async def _main(redis_url: str, data_dir: str, *more: str) -> None:
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    from consumers.agents.demo import DemoAgent
    from consumers.handlers.files import FileReactions
    from consumers.worker import running
    from hub.config import Settings
    from hub.uploads.finishing import open_finisher
    from streams.redis.log import Log
    from support.run_rig import options

    agents = {"demo": DemoAgent(pace_s=0.001), "actor": Actor(is_lost="lost" in more)}
    log = await Log.open(redis_url)
    async with open_finisher(Settings(redis_url=redis_url, data_dir=data_dir), log) as finisher:
        async with running(options(redis_url, agents, handlers=(FileReactions(finisher),), grace_s=0.1), log):
            print("up", flush=True)
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
