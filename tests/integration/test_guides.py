"""Every code block of every guide runs, in a folder of the page's own, and prints what the page shows."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.hub_process import clean_environment
from support.nodes import free_socket
from support.redis_server import RedisServer
from support.shown_commands import BLOCK, assert_shown, in_shell, output_of
from support.terminal_command import Terminal

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="the servers are killed")]

ROOT = Path(__file__).parents[2]
GUIDES = sorted(file for file in (ROOT / "docs" / "guides").glob("*.md") if file.name != "README.md")
LINES_MAX = 120
GUIDE_PORT = "8123"
"""Shown where a port has to be chosen; somebody may be on it here."""
SERVES = re.compile(r"\bhub (dev|serve|worker)\b|^(uvicorn) ", re.MULTILINE)
UP = {"dev": "Press Ctrl-C to stop.", "serve": "is up", "worker": "is up", "uvicorn": "Uvicorn running"}


class Walk:
    """One reader of one page: files are saved under the name in their first line, servers run on in other terminals."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        self._folder = folder
        (folder / "examples").symlink_to(ROOT / "examples")
        path = f"{Path(sys.executable).parent}:{clean_environment()['PATH']}"
        self._env = clean_environment(TERM="xterm", COLUMNS="400", HUB_DATA=str(folder / "data"), PATH=path)
        self._env |= {"OWN_REDIS": redis_url}
        self._exports = ""
        self._servers: dict[str, Terminal] = {}

    def take(self, page: str) -> None:
        """Do what the page says, from top to bottom."""
        printed = ""
        for language, code in BLOCK.findall(page):
            if language == "python":
                self._save(code)
            elif language == "sh":
                printed = self._run(code)
            elif language == "text":
                assert_shown(code, printed)
            else:
                pytest.fail(f"a block of {language or 'no language'}: nothing runs it")

    def end(self) -> None:
        """Stop what runs."""
        for server in self._servers.values():
            server.interrupt()

    def _save(self, code: str) -> None:
        named = re.match(r"# ([\w.]+)\n", code)
        assert named, f"no file name in the first line: {code[:40]}"
        (self._folder / named[1]).write_text(code)

    def _run(self, code: str) -> str:
        serves = SERVES.search(code)
        if serves is None:
            printed = output_of(self._exports + code, self._env, self._folder)
            self._exports += "".join(line + "\n" for line in code.splitlines() if line.startswith("export "))
            return printed
        kind = serves[1] or serves[2]
        if kind in self._servers:
            self._servers.pop(kind).interrupt()
        self._servers[kind] = in_shell(self._exports + code, self._env, self._folder)
        return self._servers[kind].wait_for(UP[kind])


@pytest.fixture
def walk(tmp_path: Path, own_redis: RedisServer) -> Iterator[Walk]:
    """A reader in an empty folder; deployment has a Redis of its own."""
    walk = Walk(tmp_path, own_redis.url)
    yield walk
    walk.end()


@pytest.mark.parametrize("guide", GUIDES, ids=lambda file: file.stem)
def test_a_guide_works(guide: Path, walk: Walk) -> None:
    """As it stands."""
    with free_socket() as bound:
        port = str(bound.getsockname()[1])
    walk.take(guide.read_text(encoding="utf-8").replace(GUIDE_PORT, port))


@pytest.mark.parametrize("guide", GUIDES, ids=lambda file: file.stem)
def test_a_guide_is_short_and_in_the_index(guide: Path) -> None:
    """Nobody finds what no page names."""
    assert guide.read_text(encoding="utf-8").count("\n") <= LINES_MAX
    assert f"]({guide.name})" in (guide.parent / "README.md").read_text(encoding="utf-8")
