"""`hub bench` as its users start it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from ops.children import hub

pytestmark = pytest.mark.slow


def test_the_command_writes_both_files(tmp_path: Path) -> None:
    command = hub("bench", "idle", "--quick", "--set", "seconds=0.2", "--no-aof", "--output", str(tmp_path / "out"))
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)

    assert (done.returncode, done.stderr) == (0, "")
    assert "idle · this hub: p50, ms" in done.stdout
    assert [one["error"] for one in json.loads((tmp_path / "out/result.json").read_text())["rows"]] == [""]
    assert (tmp_path / "out/result.html").read_text().endswith("</html>")


@pytest.mark.long
def test_ctrl_c_ends_everything_it_started(tmp_path: Path) -> None:
    command = hub("bench", "jitter", "--quick", "--no-aof", "--output", str(tmp_path))
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        while not children_of(process.pid, "load-"):
            assert process.poll() is None
        started = children_of(process.pid)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)

    assert process.returncode == 130
    assert [pid for pid in started if Path(f"/proc/{pid}").exists()] == []
    assert [path.name for path in tmp_path.glob("hub-bench-*")] == []


def children_of(pid: int, named: str = "") -> list[int]:
    """Children of a process whose command line holds a text; children come and go."""
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            if named in Path(f"/proc/{child}/cmdline").read_text():
                found.append(int(child))
    return found


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nothing",), "there is no scenario 'nothing'"),
        (("idle", "--peers", "nobody"), "there is no peer 'nobody'"),
        (("idle", "--set", "storm=-1"), "the size storm must be a number above 0"),
        (("idle", "--quick", "--full"), "choose one of --quick and --full"),
    ],
)
def test_wrong_arguments_are_refused_with_a_sentence(arguments: tuple[str, ...], says: str) -> None:
    done = subprocess.run(hub("bench", *arguments), capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert says in done.stderr
