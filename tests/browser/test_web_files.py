"""The console's files hold nothing forbidden, read without a browser."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest

WEB = Path(str(files("hub.web")))
CLIENT = Path(str(files("hub.client_js")))
SCRIPTS = sorted([*WEB.glob("*.js"), *CLIENT.rglob("*.js")])
PAGES = sorted(WEB.glob("*.html"))
MARKUP = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|srcdoc|\beval\(|new Function|DOMParser")


def imported_by(script: Path) -> list[Path]:
    """The modules that a script imports, wherever it is served."""
    names = re.findall(r'^(?:import|export) .*from "([^"]+)";$', script.read_text(), flags=re.MULTILINE)
    return [CLIENT / name[3:] if name.startswith("../") else script.parent / name for name in names]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_make_no_markup_out_of_text(script: Path) -> None:
    """Data from the network reaches the page as text, whatever somebody changes later."""
    assert MARKUP.findall(script.read_text()) == []


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_modules_import_only_their_neighbours(script: Path) -> None:
    """No dependency, no build: every import is a file of ours, found from the address that it is served at."""
    imported = imported_by(script)

    assert [path for path in imported if not path.exists() and path.name != "react"] == []
    assert any(path.name == "react" for path in imported) is (script.name == "react.js")  # the application's own


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_pages_ask_for_all_modules_at_once(page: Path) -> None:
    """Each module that a page's script leads to is named in the page: else they come one after another, a round trip each."""
    reached, due = set(), imported_by(page.with_suffix(".js"))
    while due:
        module = due.pop()
        if module not in reached:
            reached.add(module)
            due += imported_by(module)
    preloaded = re.findall(r'<link rel="modulepreload" href="([^"]+)"', page.read_text())

    assert sorted(Path(name).name for name in preloaded) == sorted(module.name for module in reached)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_pages_hold_no_inline_code_and_load_what_is_there(page: Path) -> None:
    """Nothing that the Content-Security-Policy would refuse, nothing that is missing, nothing from elsewhere."""
    text = page.read_text()
    loaded = re.findall(r'(?:src|href)="([^"#]+)"', text)

    assert re.findall(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", text) == []
    assert len(loaded) >= 3
    assert [
        name
        for name in loaded
        if not (WEB if page.name != "console.html" or name.startswith("console/") else CLIENT)
        .joinpath(name.removeprefix("console/").replace("../console", "console.html"))
        .exists()
    ] == []
