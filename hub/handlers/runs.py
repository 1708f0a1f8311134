"""What chat.* and agent.* share about runs: their results, and how one is stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from hub.command import Append, Command
from hub.errors import HubError, Problem
from streams.channel import Channel
from streams.envelope import Appended
from streams.errors import GuardRefused, StreamsError
from streams.redis.log import Log
from streams.run_cancel import cancel_unbegun, is_unbegun
from streams.runs import cancelling, read_run, run_guard_name, run_id_of


def run_results(home: Channel, run_id: str | None = None, **more: str) -> Callable[[Appended], Mapping[str, str]]:
    """The reply's `run_id`, which follows from the event unless the client chose it, and what else it says."""
    return lambda appended: {**more, "run_id": run_id or run_id_of(home, appended.id)}


async def cancel_run(
    log: Log, command: Command, run_id: str, mode: Literal["graceful", "force"] = "graceful"
) -> Append:
    """Ask a run to stop. Its worker ends it with `agent.complete`; one that nobody has begun is ended here (NOTES 3)."""
    place = command.place
    raw = await log.replay.command(b"HGETALL", log.keys.guard(place, run_guard_name(place, run_id)))
    run = read_run(run_id, {raw[at].decode(): raw[at + 1].decode() for at in range(0, len(raw), 2)})

    def accepted(_appended: Appended) -> Mapping[str, str]:
        if run is not None and is_unbegun(run):
            for draft in cancel_unbegun(place, run, run.cause):
                log.submit(draft, _left_to_workers)
        return {"run_id": run_id, "state": "cancelling"}

    return Append(command.draft(guards=(cancelling(place, run_id, mode),)), accepted, no_such_run)


def _left_to_workers(result: Appended | StreamsError) -> None:
    """A refusal says that a worker has the run by now. Whatever else went wrong, workers and reaper end it too."""


def no_such_run(error: GuardRefused) -> HubError:
    """A run that is not there, or is final."""
    if error.present is None:
        return HubError(4018, "there is no such run in this channel")
    return HubError(4021, "the run cannot take this any more", details=(Problem("state", f"is {error.present}"),))
