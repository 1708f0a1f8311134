"""What chat.* and agent.* share about runs: their results, and how one is stopped. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from hub.command import Append, Command
from hub.errors import HubError, Problem
from streams.channel import Channel
from streams.envelope import Appended
from streams.errors import GuardRefused
from streams.runs import cancelling, run_id_of


def run_results(home: Channel, run_id: str | None = None, **more: str) -> Callable[[Appended], Mapping[str, str]]:
    """The reply's `run_id`, which follows from the event unless the client chose it, and what else it says."""
    return lambda appended: {**more, "run_id": run_id or run_id_of(home, appended.id)}


def cancel_run(command: Command, run_id: str, mode: Literal["graceful", "force"] = "graceful") -> Append:
    """Ask a run to stop. Whoever holds it, or nobody, ends it with `agent.complete`."""
    guard = cancelling(command.place, run_id, mode)
    return Append(command.draft(guards=(guard,)), {"run_id": run_id, "state": "cancelling"}, no_such_run)


def no_such_run(error: GuardRefused) -> HubError:
    """A run that is not there, or is final."""
    if error.present is None:
        return HubError(4018, "there is no such run in this channel")
    return HubError(4021, "the run cannot take this any more", details=(Problem("state", f"is {error.present}"),))
