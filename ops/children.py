"""Python programs as children: they take no module from the current folder, and what they say on stderr is shown when they fail."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Final

from streams.errors import StreamsError

_LIBRARY: Final = str(Path(__file__).parents[1])
_TOLD_BYTES: Final = 2_000
"""So much of the end of a child's stderr is shown: a traceback's last frames."""


class ChildFailed(StreamsError):
    """A child ended, or was not ready in time; the text holds the end of its stderr."""


def python(program: str, *arguments: str) -> list[str]:
    """The command line that runs this text with our packages.

    Python puts the current folder before everything else; a package there that is named like ours, or like Python's own,
    would be imported in its place (-P leaves the folder out). Ours come last, for a checkout that is not installed.
    """
    return [sys.executable, "-P", "-c", f"import sys; sys.path.append({_LIBRARY!r}); {program}", *arguments]


def module(name: str, *arguments: str) -> list[str]:
    """The command line of `python -m NAME`."""
    return python(f"import runpy; runpy.run_module({name!r}, run_name='__main__', alter_sys=True)", *arguments)


def hub(*arguments: str) -> list[str]:
    """The command line of `hub ARGUMENTS`."""
    return python("from ops.cli import main; main()", *arguments)


class Child:
    """A child whose stderr is kept until it is asked for; its stdout is thrown away."""

    def __init__(self, name: str, command: list[str], env: Mapping[str, str]) -> None:
        self._name = name
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `kill`
        self._process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=self._errors)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def refuse_if_ended(self) -> None:
        """Checks that it runs.

        Raises:
            ChildFailed: it ended.
        """
        if (code := self._process.poll()) is not None:
            raise self.failure(f"ended with code {code}")

    def failure(self, what: str) -> ChildFailed:
        """The error that says what became of it, and what it said last."""
        self._errors.seek(0)
        said = self._errors.read()[-_TOLD_BYTES:].decode(errors="replace").strip()
        return ChildFailed(f"{self._name} {what}: {said or 'it said nothing on stderr'}")

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()
        self._errors.close()
