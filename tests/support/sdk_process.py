"""Both clients as processes: each does what it is told on standard input, and tells what it sees, in lines of JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
PATIENCE_S: Final = 60.0


class SdkProcess:
    """A client in a process, which follows channels and writes into them.

    Attributes:
        seen: (seq, text) of every event it was given, in order.
        ways: the way on which each came.
        stored: ID of a command → the seq that the hub answered.
        others: everything else that it told, such as a gap or a refusal.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._news = asyncio.Condition()
        self.seen: list[tuple[int, str]] = []
        self.ways: list[str] = []
        self.stored: dict[str, int] = {}
        self.others: list[Any] = []

    async def listen(self) -> None:
        """Take what it tells until it ends."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            match json.loads(line):
                case {"saw": "event", "seq": seq, "text": text, "way": way}:
                    self.seen.append((seq, text))
                    self.ways.append(way)
                case {"saw": "stored", "id": command, "seq": seq}:
                    self.stored[command] = seq
                case {"saw": "subscribed"}:
                    pass
                case other:
                    self.others.append(other)
            async with self._news:
                self._news.notify_all()

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Wait until it has told what makes this true, or something that it should not tell."""
        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(lambda: is_so() or bool(self.others))

    async def end(self, listening: asyncio.Task[None]) -> None:
        """Kill it, and take what it told last."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        await listening

    async def do(self, **told: Any) -> None:
        """Tell it what to do."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(told).encode() + b"\n")
        await self._process.stdin.drain()

    async def send(self, channel: str, text: str) -> None:
        """Write a message, with its text as the command's ID, and wait until it is stored."""
        await self.do(do="send", channel=channel, text=text, id=text)
        await self.until(lambda: text in self.stored)


def javascript(url: str, token: str, tree: Path = ROOT) -> tuple[list[str], Mapping[str, str]]:
    """The program and the environment of the JavaScript client of a tree."""
    files = [str(tree / "tests/conformance/js_client.mjs"), str(tree / "hub/client_js/hub.js")]
    return ["node", "--experimental-websocket", *files, url, token], os.environ


def python(url: str, token: str, tree: Path = ROOT) -> tuple[list[str], Mapping[str, str]]:
    """The program and the environment of the Python client of a tree."""
    program = [sys.executable, str(tree / "tests/conformance/python_client.py"), url, token]
    return program, os.environ | {"PYTHONPATH": str(tree)}


@contextlib.asynccontextmanager
async def sdk_process(program: list[str], env: Mapping[str, str]) -> AsyncIterator[SdkProcess]:
    """Run a client, and kill it at the end."""
    process = await asyncio.create_subprocess_exec(*program, stdin=-1, stdout=-1, env=env)
    client = SdkProcess(process)
    listening = asyncio.create_task(client.listen())
    try:
        yield client
    finally:
        await client.end(listening)
