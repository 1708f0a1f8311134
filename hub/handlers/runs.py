"""The runs of chat.* and agent.*: their results, and stopping one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal

from hub.errors import ErrorDetail, HubError
from hub.protocol.commands import Append, Command
from streams.channel import Channel
from streams.envelope import Appended, Guard
from streams.errors import GuardRefused, StreamsError
from streams.records.run_cancel import cancel_unbegun, is_unbegun
from streams.records.runs import cancelling, home_guard_name, read_run, run_guard_name, run_id_of
from streams.redis.log import Log

_MEANT_TTL_S = 3_600
"""Life of the record of the run that a cancel without a name stopped: as long as the command's id is known."""


def run_results(home: Channel, run_id: str | None = None, **more: str) -> Callable[[Appended], Mapping[str, str]]:
    """The reply's `run_id`, which follows from the event unless the client chose it, and its further results."""
    return lambda appended: {**more, "run_id": run_id or run_id_of(home, appended.id)}


async def cancel_active(log: Log, command: Command) -> Append:
    """Ask the run that has its turn to stop. The same command again names the run it stopped then, whoever's turn it is.

    Raises:
        HubError: 4018, no run is active.
    """
    place = command.place
    meant = Guard(f"meant:{place.wire}:{command.caller.principal.user}:{command.id}", ttl_s=_MEANT_TTL_S)
    found = await log.replay.command(b"HGET", log.keys.guard(place, meant.name), b"run_id")
    found = found or await log.replay.command(b"HGET", log.keys.guard(place, home_guard_name(place)), b"active")
    if not found:
        raise HubError(4018, "no run is active in this channel")
    run_id = found.decode()
    remembered = (replace(meant, sets=(("run_id", run_id),)),) if command.id is not None else ()
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
    raw = await log.replay.command(b"HGETALL", log.keys.guard(place, run_guard_name(place, run_id)))
    run = read_run(run_id, {raw[at].decode(): raw[at + 1].decode() for at in range(0, len(raw), 2)})

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
