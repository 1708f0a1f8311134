"""README is true: its commands run, print what it shows, and the tests it names exist."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from hub.config import settings_table

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PATIENCE_S = 100.0
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass
class Block:
    """A fenced block; `shown` is the output README prints below it, `python` the program printed above it."""

    code: str
    shown: str = ""
    python: str = ""


def shell_blocks() -> list[Block]:
    """README's `sh` blocks, each with the `text` block that follows and the `python` block before."""
    found: list[Block] = []
    python = ""
    for language, code in BLOCK.findall(README):
        if language == "sh":
            found.append(Block(code, python=python))
            python = ""
        elif language == "text":
            found[-1].shown = code
        elif language == "python":
            python = code
    return found


class Terminal:
    """A shell command on a terminal of its own; what it printed, without colours."""

    def __init__(self, code: str, env: dict[str, str]) -> None:
        self._screen, side = pty.openpty()
        self.process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", code], cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=side, stderr=side,
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
            except OSError:  # Linux's way to say that the other side of a pty is closed
                part = b""
            with self._grew:
                self._text += part.decode(errors="replace")
                self._grew.notify_all()
            if not part:
                os.close(self._screen)
                return

    def wait_for(self, text: str) -> str:
        """Everything printed, once `text` is in it or the command ended."""
        with self._grew:
            self._grew.wait_for(lambda: text in self._text or not self._reader.is_alive(), PATIENCE_S)
            return self._text

    def finish(self) -> str:
        """Everything printed, once the command ended well."""
        self._reader.join(PATIENCE_S)
        code = self.process.wait(PATIENCE_S)
        assert code == 0, f"exit code {code}: {self._text}"
        return self._text

    def interrupt(self) -> None:
        """Ctrl-C, to the whole foreground group as a terminal does."""
        os.killpg(self.process.pid, signal.SIGINT)
        self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)


def plain(text: str) -> list[str]:
    """Lines with what differs from run to run made equal: numbers, paths, lengths of blanks."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "")
    text = re.sub(r"\S*redis-cli", "redis-cli", re.sub(r"\d+", "0", text))
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def assert_shown(shown: str, printed: str) -> None:
    """Every line README shows was printed, in that order; `…` stands for anything."""
    lines = iter(plain(printed))
    for wanted in plain(shown.replace("…redis-cli", "redis-cli")):
        pattern = re.sub(r"([\[\]?*])", r"[\1]", wanted).replace("…", "*")
        assert any(fnmatchcase(line, pattern) for line in lines), f"README shows {wanted!r}; printed:\n{printed}"


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A newcomer's environment, with a data folder of this test's own; the port is whatever `hub dev` finds."""
    ours = ("HUB_", "WEBSOCKET_", "S3_", "REDIS_", "MAKE", "MFLAGS", "COV_", "PYTEST")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    clean |= {"TERM": "xterm", "COLUMNS": "400"}
    return clean | {"HUB_DATA": str(tmp_path_factory.mktemp("quickstart"))}


@pytest.fixture(scope="module")
def running(env: dict[str, str]) -> Iterator[str]:
    """The first block, left running while the others are tried; what it printed."""
    subprocess.run(["make", "setup"], cwd=ROOT, env=env, check=True, capture_output=True)  # a checkout may be behind
    with contextlib.ExitStack() as taken:
        with contextlib.suppress(OSError):  # by somebody else, then
            taken.enter_context(socket.create_server(("127.0.0.1", 8000)))
        hub = Terminal(shell_blocks()[0].code, env)
        printed = hub.wait_for("Press Ctrl-C to stop.")
    yield printed
    hub.interrupt()


def test_the_first_command_gets_a_result(running: str) -> None:
    """`make run` prints the address, a token and the redis-cli line that README shows."""
    first = shell_blocks()[0]

    assert first.code == "make run\n"
    assert_shown(first.shown.replace("8000", "0"), running)


def test_the_commands_print_what_readme_shows(running: str, env: dict[str, str], tmp_path: Path) -> None:
    """Every further block runs as it stands, in one shell after the other, and its output is the one shown."""
    program = tmp_path / "resume.py"
    setup = ""
    tried = 0
    for block in shell_blocks()[1:]:
        if block.code == "make test\n":
            continue
        if block.python:
            program.write_text(block.python)
        code = block.code.replace("resume.py", str(program))
        printed = Terminal(setup + code, env).finish()
        assert_shown(block.shown, printed)
        setup += "".join(line + "\n" for line in code.splitlines() if line.startswith("export "))
        tried += 1

    assert tried == 3


def test_a_start_on_a_machine_that_is_set_up_sets_nothing_up(running: str) -> None:
    """Starting again is `hub dev` and nothing else: no pip, no network."""
    assert running.partition("hub is up")[0].split() == [".venv/bin/hub", "dev"]


def test_ci_runs_the_test_command_of_the_readme() -> None:
    """One command for everybody."""
    assert "make test\n" in {block.code for block in shell_blocks()}
    assert (ROOT / ".ci/run").read_text().rstrip().endswith("\nmake test")


def test_every_test_named_exists() -> None:
    """The table of guarantees names tests; none of them may be a wish."""
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", README)

    missing = [f"{file}::{name}" for file, name in named if not _has_test(ROOT / file, name)]

    assert len(named) >= 5
    assert missing == []


def test_the_settings_table_is_the_declarations() -> None:
    """It is generated; here it is compared."""
    told = re.search(r"<!-- settings:.*?-->\n(.*?)<!-- /settings -->", README, re.DOTALL)

    assert told is not None
    assert told[1].strip() == settings_table()


def test_every_file_and_folder_named_exists() -> None:
    """A path in README leads somewhere."""
    named = re.findall(r"`((?:streams|projections|hub|consumers|ops|tests)/[\w./-]*)`", README)

    assert [path for path in named if not (ROOT / path).exists()] == []


def _has_test(file: Path, name: str) -> bool:
    return file.exists() and re.search(rf"^\s*(async )?def {name}\(", file.read_text(), re.MULTILINE) is not None
