"""The runs of chat.* and agent.*: their results, and stopping one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from hub.errors import ErrorDetail, HubError
from hub.protocol.commands import Append, Command
from streams.channel import Channel
from streams.envelope import Appended, Guard
from streams.errors import GuardRefused, StreamsError
from streams.records.run_store import RunStore
from streams.records.runs import cancel_unbegun, cancelling, is_unbegun, meaning, run_id_of
from streams.redis.log import Log


def run_results(home: Channel, run_id: str | None = None, **more: str) -> Callable[[Appended], Mapping[str, str]]:
    """The reply's `run_id`, which follows from the event unless the client chose it, and its further results."""
    return lambda appended: {**more, "run_id": run_id or run_id_of(home, appended.id)}


async def cancel_active(log: Log, command: Command) -> Append:
    """Ask the run that has its turn to stop. The same command again names the run it stopped then, whoever's turn it is.

    Raises:
        HubError: 4018, no run is active.
    """
    place = command.place
    runs, user = RunStore(log), command.caller.principal.user
    meant = await runs.meant(place, user, command.id) if command.id is not None else ""
    run_id = meant or await runs.active(place)
    if not run_id:
        raise HubError(4018, "no run is active in this channel")
    remembered = (meaning(place, user, command.id, run_id),) if command.id is not None else ()
    return await cancel_run(log, command, run_id, more=remembered)


async def cancel_run(
    log: Log,
    command: Command,
    run_id: str,
    mode: Literal["graceful", "force"] = "graceful",
    more: tuple[Guard, ...] = (),
) -> Append:
    """Ask a run to stop. Its worker ends it with `agent.complete`; one that nobody has begun is ended here."""
    place = command.place
    run = await RunStore(log).run(place, run_id)

    def accepted(_appended: Appended) -> Mapping[str, str]:
        if run is not None and is_unbegun(run):
            for draft in cancel_unbegun(place, run, run.cause):
                log.submit(draft, _left_to_workers)
        return {"run_id": run_id, "state": "cancelling"}

    return Append(command.draft(guards=(cancelling(place, run_id, mode), *more)), accepted, no_such_run)


def _left_to_workers(result: Appended | StreamsError) -> None:
    """A refusal says that a worker has the run by now. After any other error, workers and the reaper end it, too."""


def no_such_run(error: GuardRefused) -> HubError:
    """A run that is not there, or is final."""
    if error.present is None:
        return HubError(4018, "there is no such run in this channel")
    return HubError(4021, "the run no longer accepts this", details=(ErrorDetail("state", f"is {error.present}"),))
