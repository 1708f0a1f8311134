"""Runs a `hub` command that serves, as a child process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

PROGRAM = [sys.executable, "-c", "from ops.cli import main; main()"]
OURS = ("HUB_", "WEBSOCKET_", "S3_", "REDIS_")


def clean_environment(**more: str) -> dict[str, str]:
    """The environment without the hub's settings, and with these variables."""
    return {name: value for name, value in os.environ.items() if not name.startswith(OURS)} | more


class Server:
    """A serving `hub` process; `url` is its address once it is up."""

    def __init__(self, *arguments: str, env: dict[str, str] | None = None, stderr: int = subprocess.PIPE) -> None:
        self.process = subprocess.Popen(
            [*PROGRAM, *arguments],
            env=clean_environment(**(env or {})),
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
        assert self.process.stdout is not None
        self.banner = ""
        while "Ctrl-C" not in self.banner and (line := self.process.stdout.readline()):
            self.banner += line
            if "serve" in arguments:
                break
        found = re.search(r"hub (?:is up|starts \d+ nodes) on (\S+)", self.banner)
        assert found, self.banner + (self.process.communicate()[1] or "")
        self.url = found[1]

    def nodes(self) -> list[int]:
        """The process IDs of the nodes of `hub serve --workers`."""
        told = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in told.split() if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    def end(self, number: int) -> tuple[int, str]:
        """Send a signal; returns the exit code and the text on stderr. `banner` then has what was printed to the end."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=50)
        self.banner += out
        return self.process.returncode, err
