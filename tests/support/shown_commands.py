"""Runs the commands shown on a page in a terminal and compares their output with that shown on the page."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import threading
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

PATIENCE_S: Final = 100.0
BLOCK: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass
class Block:
    """A fenced block; `shown` is the output shown below it, `python` the program shown above it."""

    code: str
    shown: str = ""
    python: str = ""


def shell_blocks(page: str) -> list[Block]:
    """A page's `sh` blocks, each with the `text` block after it and the `python` block before it."""
    found: list[Block] = []
    python = ""
    for language, code in BLOCK.findall(page):
        if language == "sh":
            found.append(Block(code, python=python))
            python = ""
        elif language == "text":
            found[-1].shown = code
        elif language == "python":
            python = code
    return found


class Terminal:
    """Runs a shell command in a pseudo-terminal and collects its output, without colours."""

    def __init__(self, code: str, env: dict[str, str], cwd: Path) -> None:
        self._screen, side = pty.openpty()
        self.process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", code], cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=side, stderr=side,
            start_new_session=True,
        )  # fmt: skip # many arguments
        os.close(side)
        self._text = ""
        self._grew = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                part = os.read(self._screen, 65_536)
            except OSError:  # Linux reports a closed pty in this way
                part = b""
            with self._grew:
                self._text += part.decode(errors="replace")
                self._grew.notify_all()
            if not part:
                os.close(self._screen)
                return

    def wait_for(self, text: str) -> str:
        """Wait until `text` is in the output or the command has ended; returns the output."""
        with self._grew:
            self._grew.wait_for(lambda: text in self._text or not self._reader.is_alive(), PATIENCE_S)
            return self._text

    def finish(self) -> str:
        """Wait until the command has ended successfully; returns the output."""
        self._reader.join(PATIENCE_S)
        code = self.process.wait(PATIENCE_S)
        assert code == 0, f"exit code {code}: {self._text}"
        return self._text

    def interrupt(self) -> None:
        """Send Ctrl-C to the foreground process group, as a terminal does."""
        os.killpg(self.process.pid, signal.SIGINT)
        self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)


def plain(text: str) -> list[str]:
    """The lines with everything that varies between runs replaced: numbers, paths, widths of spaces."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "")
    text = re.sub(r"\S*redis-cli", "redis-cli", re.sub(r"\d+", "0", text))
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def assert_shown(shown: str, printed: str) -> None:
    """Check that every line shown was printed, in that order; `…` matches anything."""
    lines = iter(plain(printed))
    for wanted in plain(shown.replace("…redis-cli", "redis-cli")):
        pattern = re.sub(r"([\[\]?*])", r"[\1]", wanted).replace("…", "*")
        assert any(fnmatchcase(line, pattern) for line in lines), f"the page shows {wanted!r}; printed:\n{printed}"
