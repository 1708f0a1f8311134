"""Programs that commands start: no module of the current folder takes the place of ours, and a failure says why."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
from pathlib import Path

import pytest

from ops.children import Child, ChildFailed, NodeProcess, hub, module, python
from ops.cli.failure import one_line

ROOT = Path(__file__).parents[3]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a project that has a package `hub`, an `ops`, and a module named like one of Python's own."""
    for name in ("hub/__init__.py", "ops/__init__.py", "secrets.py"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"raise SystemExit('imported {name} of the current folder')")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(
    "command",
    [
        hub("serve", "--help"),
        module("ops.bench.echo", "--help"),
        python("import hub.server, secrets"),
    ],
)
def test_a_package_named_hub_in_the_current_folder_is_not_imported(command: list[str]) -> None:
    """`hub bench` and `hub torture`, started there, died after two minutes with one word."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
async def test_a_child_that_ends_is_told_at_once_with_what_it_said() -> None:
    """It was waited for, for two minutes, and its stderr thrown away."""
    node = NodeProcess("nonsense://127.0.0.1", "s" * 40)
    node.start()
    try:
        async with asyncio.timeout(60):
            with pytest.raises(ChildFailed, match=r"the node ended with code 2: hub serve: REDIS_URL"):
                await node.ready()
    finally:
        node.kill()


def test_what_a_child_said_is_cut() -> None:
    """The end of a long stderr is what tells."""
    child = Child("it", python("sys.stderr.write('x' * 9_000 + ' the reason')"), os.environ)
    child._process.wait()

    text = str(child.failure("ended"))
    child.kill()
    assert text.endswith("x the reason")
    assert len(text) < 2_100


@pytest.mark.parametrize("error", [TimeoutError(), ConnectionResetError(), OSError()])
def test_an_error_without_a_text_is_a_sentence(error: Exception) -> None:
    """The one line was the name of a class."""
    line = one_line(error)

    assert line is not None
    assert len(line[0].split()) > 5


def test_every_command_line_of_a_child_is_made_here() -> None:
    """`ops/torture` starts its children in our own folder; `ops/wheels.py` starts pip, not us."""
    pattern = re.compile(r"\[?sys\.executable, *\"-|sys\.executable,$", re.MULTILINE)
    files = [file for folder in ("hub", "streams", "consumers", "ops") for file in (ROOT / folder).rglob("*.py")]
    made = {str(file.relative_to(ROOT)) for file in files if pattern.search(file.read_text())}

    assert {name for name in made if not name.startswith("ops/torture/")} == {"ops/children.py", "ops/wheels.py"}
