"""A process that simulates several people: `python -m ops.torture.client CONFIG`, started and controlled by its parent.

Commands arrive on stdin, one per line: `away` (disconnect and stay away), `back`, `calm` (no more faults), `quiet` (finish what
has begun), `look` (read the states), `people` (read the presence lists), `revoke`, `expire` (a token), `exit`. Each is
answered, once done, by a line with the same word.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any, Final

from ops.children import end_with
from ops.torture.doings import DOINGS, expire, revoke, try_ended
from ops.torture.history import Recorder
from ops.torture.people import ASK, CREW, FILES, NOTES, TALK, ClientSettings, Participant
from ops.torture.sse import follow_by_sse

_LIBRARY: Final = Path(__file__).parents[2]
ANSWER_TIMEOUT_S: Final = 120.0


class Client:
    """The simulated people of one process."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._recorder = Recorder(Path(config["file"]), config["process"])
        names = ("tenant", "mark", "urls", "secret", "claims", "agent", "seed", "rate_per_s")
        self._setting = ClientSettings(**{name: config[name] for name in names})
        run = config["run"]
        self.people = []
        for number, user in enumerate(config["users"]):
            chance = random.Random(f"{config['seed']}:{config['process']}:{user}")
            follows: dict[str, Any] = {
                TALK: {},
                CREW: {"presence": True},
                ASK[number % len(ASK)]: {},
                FILES: {"state": False},
            }
            if number % 2:
                follows[NOTES] = {}
            self.people.append(Participant(self._recorder, self._setting, user, run, follows, chance))
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Run until told to exit."""
        self._tasks += [asyncio.create_task(person.stay()) for person in self.people]
        self._tasks += [asyncio.create_task(person.live(DOINGS)) for person in self.people]
        self._tasks.append(asyncio.create_task(follow_by_sse(self.people[0], TALK)))
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while (line := (await reader.readline()).decode().strip()) not in {"exit", ""}:
            await self._told(line)
            print(line, flush=True)
        self._recorder.close()  # first, because connections that end now are no longer part of the run
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        print("exit", flush=True)

    async def _told(self, word: str) -> None:
        failed = [task for task in self._tasks if task.done() and not task.cancelled() and task.exception()]
        for task in failed:
            raise RuntimeError("a person's task ended") from task.exception()
        match word:
            case "away":
                self._setting.go_away()
            case "back":
                self._setting.come_back()
            case "calm":
                self._setting.become_calm()
            case "quiet":
                self._setting.become_quiet()
                await asyncio.gather(*(person.idle() for person in self.people))
            case "look":
                await self._look()
            case "people":
                await self._count()
            case "revoke":
                person = self.people[-1]
                person.spawn(revoke(person))
            case "expire":
                person = self.people[0]
                person.spawn(expire(person))
            case _:
                raise ValueError(f"unknown word: {word}")

    async def _look(self) -> None:
        """Read the state of every channel from every node."""
        person = self.people[0]
        for channel in (TALK, *ASK, CREW, NOTES, FILES, *(f"user:{user.user}" for user in self.people)):
            reader = next((one for one in self.people if channel == f"user:{one.user}"), person)
            for node in sorted(self._setting.urls):
                await reader.get("read.state", f"/v1/channels/{channel}/state", channel, {}, node)
        for person_revoked in self.people:
            for name, token in person_revoked.revoked:
                await try_ended(person_revoked, name, token)

    async def _count(self) -> None:
        """Read the presence lists of every node."""
        for channel in (TALK, *ASK, CREW, FILES):
            for node in sorted(self._setting.urls):
                await self.people[0].get("read.presence", f"/v1/channels/{channel}/presence", channel, {}, node)


class ClientProcess:
    """A process that simulates people, as its parent controls it.

    After each start it writes a new file under a new process name.

    Args:
        name: the prefix of its process names.
        folder: the folder for its files.
        config: the configuration for `ops.torture.client`, without `file`, `process` and `run`.
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
        """The name of the current process."""
        return f"{self.name}x{self.run}"

    def start(self) -> None:
        """Start the process."""
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
        """Send a signal to the process."""
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                self._child.send_signal(number)

    def kill(self) -> None:
        """Kill the process with SIGKILL."""
        self.send(signal.SIGKILL)

    async def say(self, word: str) -> None:
        """Send a command and wait until the process reports that it is done.

        Raises:
            RuntimeError: the process ended, or did not answer in time.
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
            # With uvloop, writing to a closed pipe is a RuntimeError.
            except (OSError, TimeoutError, RuntimeError) as error:
                told = f"client {self.process} does not answer {word}: {error!r}; {self._last_words()}"
                raise RuntimeError(told) from error
            if answer != word:
                raise RuntimeError(f"client {self.process} ended: {self._last_words()}")

    def _last_words(self) -> str:
        return (self._folder / f"{self.process}.log").read_text(errors="replace")[-1_500:]

    async def end(self) -> None:
        """End the process, whatever state it is in."""
        if self._starting is not None:
            await asyncio.gather(self._starting, return_exceptions=True)
        if self._child is not None:
            self.send(signal.SIGCONT)
            self.kill()
            await self._child.wait()


if __name__ == "__main__":
    asyncio.run(Client(json.loads(Path(sys.argv[1]).read_text())).run())
