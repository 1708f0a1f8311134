"""Commands on a terminal, and `hub` commands in a pipe or on a terminal against the hub on a data folder."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

from support.hub_process import PROGRAM, clean_environment

PATIENCE_S = 100.0


def hub(data: Path, *arguments: str) -> tuple[int, str, str]:
    """A command without a terminal: exit code, output, errors."""
    done = subprocess.run(
        [*PROGRAM, *arguments], check=False, env=clean_environment(HUB_DATA=str(data)), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip # many arguments
    return done.returncode, done.stdout, done.stderr


class Terminal:
    """A command with a terminal for all three streams, or for its output alone; `text` is the output so far."""

    def __init__(
        self, command: Sequence[str], env: dict[str, str], cwd: Path | None = None, *, reads: bool = True
    ) -> None:
        self._screen, side = pty.openpty()
        self.process = subprocess.Popen(
            command, cwd=cwd, env=env, stdin=side if reads else subprocess.DEVNULL, stdout=side, stderr=side,
            start_new_session=True,
        )  # fmt: skip # many arguments
        os.close(side)
        self.text, self.part_count = "", 0
        self._grew = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                part = os.read(self._screen, 65_536)
            except OSError:  # Linux reports a closed terminal in this way
                part = b""
            with self._grew:
                self.text += part.decode(errors="replace").replace("\r\n", "\n")
                self.part_count += 1
                self._grew.notify_all()
            if not part:
                return

    def wait_for(self, text: str) -> str:
        """Wait until `text` is in the output; returns the output."""
        with self._grew:
            self._grew.wait_for(lambda: text in self.text or not self._reader.is_alive(), PATIENCE_S)
        assert text in self.text, self.text
        return self.text

    def type(self, line: str) -> None:
        """Type a line."""
        os.write(self._screen, line.encode())

    def end(self) -> int:
        """Wait until the command has ended; returns its exit code."""
        code = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        os.close(self._screen)
        return code

    def interrupt(self) -> int:
        """Send Ctrl-C to the foreground process group, as a terminal does; returns the exit code."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.end()


def hub_on_terminal(data: Path, *arguments: str) -> Terminal:
    """A `hub` command with a terminal for all three streams."""
    return Terminal([*PROGRAM, *arguments], clean_environment(HUB_DATA=str(data), TERM="xterm"))
