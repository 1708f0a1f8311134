"""Runs the commands shown on a page in a terminal and compares their output with that shown on the page."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from support.terminal_command import Terminal

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


def in_shell(code: str, env: dict[str, str], cwd: Path) -> Terminal:
    """Run a shell command with a terminal for its output."""
    return Terminal(["bash", "-euo", "pipefail", "-c", code], env, cwd, reads=False)


def output_of(code: str, env: dict[str, str], cwd: Path) -> str:
    """Run a shell command until it has ended successfully; returns its output."""
    running = in_shell(code, env, cwd)
    ended = running.end()
    assert ended == 0, f"exit code {ended}: {running.text}"
    return running.text


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
