"""The client processes of a run, as children that can be killed, stopped and spoken to."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, Final

from ops.children import end_with

_LIBRARY: Final = Path(__file__).parents[2]
ANSWER_TIMEOUT_S: Final = 120.0


class ClientProcess:
    """One process of people. Each life of it writes a file of its own under a name of its own.

    Args:
        folder: where the files go.
        config: as `ops.torture.client` reads it, without `file`, `process` and `run`.
    """

    def __init__(self, name: str, folder: Path, config: dict[str, Any]) -> None:
        self.name = name
        self.tenant = str(config["tenant"])
        self.files: list[Path] = []
        self.run = 0
        self._folder, self._config = folder, config
        self._child: asyncio.subprocess.Process | None = None
        self._lock = asyncio.Lock()
        self._starting: asyncio.Task[None] | None = None

    @property
    def process(self) -> str:
        """The name of its present life."""
        return f"{self.name}x{self.run}"

    def start(self) -> None:
        """Begin a life."""
        self._starting = asyncio.create_task(self._start())

    async def _start(self) -> None:
        self.run += 1
        file = self._folder / f"{self.process}.jsonl"
        self.files.append(file)
        config = self._folder / f"{self.process}.json"
        told = {**self._config, "process": self.process, "run": f"{self.name[-1]}.{self.run}", "file": str(file)}
        config.write_text(json.dumps(told))
        log = (self._folder / f"{self.process}.log").open("ab")
        with log:
            self._child = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "ops.torture.client",
                str(config),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                cwd=_LIBRARY,
                start_new_session=True,
                preexec_fn=end_with(os.getpid()),
                env={**os.environ},
            )

    def send(self, number: signal.Signals) -> None:
        """A signal."""
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                self._child.send_signal(number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send(signal.SIGKILL)

    async def say(self, word: str) -> None:
        """Tell it something and wait until it says that it is done.

        Raises:
            RuntimeError: it ended, or did not answer in time.
        """
        async with self._lock:
            if self._starting is not None:
                await self._starting
            child = self._child
            if child is None or child.stdin is None or child.stdout is None:
                raise RuntimeError(f"client {self.process} was not started")
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT_S):
                    child.stdin.write(f"{word}\n".encode())
                    await child.stdin.drain()
                    answer = (await child.stdout.readline()).decode().strip()
            except (OSError, TimeoutError) as error:
                raise RuntimeError(f"client {self.process} does not answer {word}: {error!r}") from error
            if answer != word:
                raise RuntimeError(f"client {self.process} ended: {self._last_words()}")

    def _last_words(self) -> str:
        return (self._folder / f"{self.process}.log").read_text(errors="replace")[-1_500:]

    async def end(self) -> None:
        """Gone, whatever state it is in."""
        if self._starting is not None:
            await asyncio.gather(self._starting, return_exceptions=True)
        if self._child is not None:
            self.send(signal.SIGCONT)
            self.kill()
            await self._child.wait()
