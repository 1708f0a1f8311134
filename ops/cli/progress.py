"""How long work shows itself: a bar on a terminal, JSON lines in a pipe."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping
from typing import Final, Self

from ops.cli.output import is_terminal

_LINE_EVERY_S: Final = 1.0


class Progress:
    """`show(done)` as it goes, `finish(facts)` at the end. Leaving the block takes the bar away."""

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
        """Tell how far it is; in a pipe at most once a second."""
        if self._bar is not None:
            self._bar(done)
        elif time.monotonic() - self._shown_at >= _LINE_EVERY_S:
            self._shown_at = time.monotonic()
            print(json.dumps({"progress": self._name, "done": done, "total": self._total}), flush=True)

    def finish(self, facts: Mapping[str, object]) -> None:
        """The result: one sentence, or one JSON line."""
        if self._bar is not None:
            print(", ".join(f"{name} {value}" for name, value in facts.items()))
        else:
            print(json.dumps(facts), flush=True)

    def _open_bar(self) -> Callable[[int], None]:
        from rich.progress import Progress as Bar

        bar = self._stack.enter_context(Bar(transient=True))
        task = bar.add_task(self._name, total=self._total)
        return lambda done: bar.update(task, completed=done)
