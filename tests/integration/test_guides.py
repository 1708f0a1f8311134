"""Every code block of every guide runs, in a folder of the page's own, and prints what the page shows."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from support.chromium import QUIET, chromium_path
from support.hub_process import clean_environment
from support.nodes import free_socket
from support.redis_server import RedisServer
from support.shown_commands import BLOCK, assert_shown, in_shell, output_of
from support.terminal_command import Terminal
from support.watched_page import PATIENCE_MS

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="the servers are killed")]

ROOT = Path(__file__).parents[2]
GUIDES = sorted(file for file in (ROOT / "docs" / "guides").glob("*.md") if file.name != "README.md")
LINES_MAX = 120
GUIDE_PORT = "8123"
"""Shown where a port has to be chosen; somebody may be on it here."""
SERVES = re.compile(r"\bhub (dev|serve|worker)\b|^(uvicorn|python3 -m http.server) ", re.MULTILINE)
UP = {
    "dev": "Press Ctrl-C to stop.",
    "serve": "is up",
    "worker": "is up",
    "uvicorn": "Uvicorn running",
    "python3 -m http.server": "Serving HTTP",
}
PAGE = re.compile(r"http://localhost:\S+#\S+")


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
        self.page: str | None = None
        """The address of a page that the reader opens."""

    def take(self, page: str) -> None:
        """Do what the page says, from top to bottom."""
        printed = ""
        for language, code in BLOCK.findall(page):
            if language in {"python", "html"}:
                self._save(code)
            elif language == "sh":
                printed = self._run(code)
            elif language == "text":
                assert_shown(code, printed)
            else:
                pytest.fail(f"a block of {language or 'no language'}: nothing runs it")
            if (opened := PAGE.search(printed)) is not None:
                self.page = opened[0]

    def end(self) -> None:
        """Stop what runs."""
        for server in self._servers.values():
            server.interrupt()

    def _save(self, code: str) -> None:
        named = re.match(r"(?:#|<!--) ([\w.]+)", code)
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


LONG = {"erasure", "resume", "rollout", "approvals", "own-page", "tracing", "uploads"}
"""Guides whose commands have tests of their own in `make test`: as a whole they are walked by `make test-long`."""


@pytest.mark.parametrize(
    "guide",
    [pytest.param(file, id=file.stem, marks=[pytest.mark.long] if file.stem in LONG else []) for file in GUIDES],
)
def test_a_guide_works(guide: Path, walk: Walk) -> None:
    """As it stands."""
    with free_socket() as bound:
        port = str(bound.getsockname()[1])
    walk.take(guide.read_text(encoding="utf-8").replace(GUIDE_PORT, port))
    if walk.page is not None:
        _chat_on(walk.page)


def _chat_on(address: str) -> None:
    """The page of a guide shows what came from elsewhere, what is written into it, and an answer to its end."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=list(QUIET))
        page = browser.new_page()
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(address)
        expect(page.locator("li").first).to_have_text("bob: hello from the terminal", timeout=PATIENCE_MS)
        for number, text in enumerate(("<b>hello</b>", "@demo how many messages?"), start=1):
            page.fill("input", text)
            page.keyboard.press("Enter")
            expect(page.locator("li").nth(number)).to_have_text(f"alice: {text}", timeout=PATIENCE_MS)
        expect(page.locator("li").last).to_have_text(re.compile("2 messages by 2 people"), timeout=PATIENCE_MS)
        assert problems == []
        browser.close()


@pytest.mark.parametrize("guide", GUIDES, ids=lambda file: file.stem)
def test_a_guide_is_short_and_in_the_index(guide: Path) -> None:
    """Nobody finds what no page names."""
    assert guide.read_text(encoding="utf-8").count("\n") <= LINES_MAX
    assert f"]({guide.name})" in (guide.parent / "README.md").read_text(encoding="utf-8")
