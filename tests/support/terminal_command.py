"""A `hub` command in a pipe or on a terminal, against the hub on a data folder."""

from __future__ import annotations

import os
import pty
import subprocess
import threading
from pathlib import Path

from support.hub_process import PROGRAM, clean_environment

PATIENCE_S = 60.0


def hub(data: Path, *arguments: str) -> tuple[int, str, str]:
    """A command without a terminal: exit code, output, errors."""
    done = subprocess.run(
        [*PROGRAM, *arguments], check=False, env=clean_environment(HUB_DATA=str(data)), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip # many arguments
    return done.returncode, done.stdout, done.stderr


class OnTerminal:
    """A command with a terminal for all three streams."""

    def __init__(self, data: Path, *arguments: str) -> None:
        self._screen, side = pty.openpty()
        env = clean_environment(HUB_DATA=str(data), TERM="xterm")
        self.process = subprocess.Popen([*PROGRAM, *arguments], env=env, stdin=side, stdout=side, stderr=side)
        os.close(side)
        self.text, self.reads = "", 0
        self._grew = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                part = os.read(self._screen, 65_536)
            except OSError:  # Linux's way to say that the other side is closed
                part = b""
            with self._grew:
                self.text += part.decode(errors="replace").replace("\r\n", "\n")
                self.reads += 1
                self._grew.notify_all()
            if not part:
                return

    def wait_for(self, text: str) -> None:
        with self._grew:
            assert self._grew.wait_for(lambda: text in self.text or not self._reader.is_alive(), PATIENCE_S), self.text
        assert text in self.text

    def type(self, line: str) -> None:
        os.write(self._screen, line.encode())

    def end(self) -> int:
        code = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        os.close(self._screen)
        return code
