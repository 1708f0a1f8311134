"""README is true: its commands run and print what it shows."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.shown_commands import assert_shown, in_shell, output_of, shell_blocks

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


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
        hub = in_shell(shell_blocks(README)[0].code, env, ROOT)
        printed = hub.wait_for("Press Ctrl-C to stop.")
    yield printed
    hub.interrupt()


@pytest.mark.slow
def test_the_first_command_gets_a_result(running: str) -> None:
    """`make run` prints the address, a token and the redis-cli line that README shows."""
    first = shell_blocks(README)[0]

    assert first.code == "make run\n"
    assert_shown(first.shown.replace("8000", "0"), running)


@pytest.mark.slow
def test_the_commands_print_what_readme_shows(running: str, env: dict[str, str], tmp_path: Path) -> None:
    """Every further block runs as it stands, in one shell after the other, and its output is the one shown.

    The last one, `make test`, is what this runs in.
    """
    program = tmp_path / "resume.py"
    setup = ""
    tried = 0
    for block in shell_blocks(README)[1:-1]:
        if block.python:
            program.write_text(block.python)
        code = block.code.replace("resume.py", str(program))
        printed = output_of(setup + code, env, ROOT)
        assert_shown(block.shown, printed)
        setup += "".join(line + "\n" for line in code.splitlines() if line.startswith("export "))
        tried += 1

    assert tried == 2


def test_a_start_on_a_machine_that_is_set_up_sets_nothing_up(running: str) -> None:
    """Starting again is `hub dev` and nothing else: no pip, no network."""
    assert running.partition("hub is up")[0].split() == [".venv/bin/hub", "dev"]


def test_ci_runs_the_test_command_of_the_readme() -> None:
    """One command for everybody."""
    assert shell_blocks(README)[-1].code == "make test\n"
    assert (ROOT / ".ci/run").read_text().rstrip().endswith("\nmake test")


def test_every_file_and_folder_named_exists() -> None:
    """A path in README leads somewhere."""
    named = re.findall(r"`((?:streams|projections|hub|consumers|ops|tests)/[\w./-]*)`", README)

    assert [path for path in named if not (ROOT / path).exists()] == []
