"""Output of commands: sentences and a progress bar on a terminal, JSON lines in a pipe."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Self

from ops.cli.options import Format

_LINE_EVERY_S: Final = 1.0


def is_terminal() -> bool:
    """True if stdout is a terminal."""
    return sys.stdout.isatty()


def line(raw: bytes, form: Format | None = None) -> str:
    """Format one event as a line; the default is text on a terminal and JSON in a pipe."""
    if (form or (Format.TEXT if is_terminal() else Format.JSONL)) is Format.JSONL:
        return raw.decode()
    return sentence(json.loads(raw))


def sentence(event: Mapping[str, Any]) -> str:
    """Format a message as `2026-11-23 04:59:01  #12  alice: hello`; other types show their payload."""
    payload, who = event.get("payload", {}), event.get("actor", {}).get("id", "hub")
    number = f"#{event['seq']}" if "seq" in event else "live"
    if event.get("erased") or isinstance(payload, str):
        return f"{_moment(event)}  {number:>6}  {printable(event['type'])} by {printable(who)}, {'sealed' if payload else 'erased'}"
    text = (
        f"{who}: {payload['text']}"
        if event["type"] == "chat.message"
        else f"{event['type']} by {who} {_brief(payload)}"
    )
    return f"{_moment(event)}  {number:>6}  {printable(text)}"


def _moment(event: Mapping[str, Any]) -> str:
    if "id" not in event:
        return " " * 19
    from streams.cursor import ms_of_id

    written = datetime.fromtimestamp(ms_of_id(event["id"]) / 1000, UTC)
    return written.strftime("%Y-%m-%d %H:%M:%S")


def _brief(payload: Mapping[str, Any]) -> str:
    return json.dumps(payload, ensure_ascii=False)[:200] if payload else ""


def printable(text: str, *, keeps: str = "") -> str:
    """Remove control characters except those in `keeps`: a message must not be able to rewrite an operator's screen."""
    return "".join(
        letter if letter.isprintable() or letter in keeps else "\N{REPLACEMENT CHARACTER}" for letter in text
    )


class ProgressBar:
    """Shows the progress of long work: call `show(done)` as it proceeds and `finish(facts)` at the end.

    Leaving the block removes the bar.
    """

    def __init__(self, name: str, total: int) -> None:
        self._name = name
        self._total = total
        self._shown_at = time.monotonic()
        self._stack = contextlib.ExitStack()
        self._bar = self._open_bar() if is_terminal() else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def show(self, done: int) -> None:
        """Show `done` of the total; in a pipe at most once a second."""
        if self._bar is not None:
            self._bar(done)
        elif time.monotonic() - self._shown_at >= _LINE_EVERY_S:
            self._shown_at = time.monotonic()
            print(json.dumps({"progress": self._name, "done": done, "total": self._total}), flush=True)

    def finish(self, facts: Mapping[str, object]) -> None:
        """Print the result: a sentence, or a JSON line in a pipe."""
        if self._bar is not None:
            print(", ".join(f"{name} {value}" for name, value in facts.items()))
        else:
            print(json.dumps(facts), flush=True)

    def _open_bar(self) -> Callable[[int], None]:
        from rich.progress import Progress as Bar

        bar = self._stack.enter_context(Bar(transient=True))
        task = bar.add_task(self._name, total=self._total)
        return lambda done: bar.update(task, completed=done)
