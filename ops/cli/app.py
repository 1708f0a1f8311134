"""What every command file makes its Typer app with."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import typer

T = TypeVar("T")


def new_app() -> typer.Typer:
    """An app with plain help and plain errors: output must be the same on a terminal, in a log and in a pipe."""
    return typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def run(job: Coroutine[Any, Any, T]) -> T:
    """Run an async command on uvloop; Ctrl-C cancels it and comes out as KeyboardInterrupt."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(job)
