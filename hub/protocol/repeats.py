"""A command that was stored before is answered as it was then, whatever has become of things since (EVENTS 15). Pure.

The state checks of handlers are courtesies that come before the append script, which alone knows what was stored. So a refusal
by state is decided there too: it becomes an append that no script lets through, unless it finds the command's id.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hub.errors import HubError
from hub.protocol.commands import Append, Command
from streams.envelope import Appended, Guard
from streams.records.runs import run_id_of

BY_STATE: Final = frozenset({4007, 4018, 4021, 4022})
"""Refusals that stand after idempotency in the order of checks."""
_NEVER: Final = Guard("never", checks=(("never", "eq", "met"),))


def unless_stored(command: Command, error: HubError) -> Append:
    """A handler's refusal as an append that ends in it, unless the command's id is found.

    Raises:
        HubError: the refusal itself, where it is not one by state of a command that is stored.
    """
    if error.row.code not in BY_STATE or not command.event.is_stored:
        raise error
    return Append(command.draft(guards=(_NEVER,)), lambda appended: first_results(command, appended), lambda _: error)


def first_results(command: Command, appended: Appended) -> Mapping[str, Any]:
    """What the first reply said beside where the event stands. Its guards' increments tell whether it began a run."""
    named = getattr(command.payload, "run_id", None)
    run_id = named or (run_id_of(command.place, appended.id) if appended.results else None)
    known: dict[str, Any] = {
        "disposition": "queued" if appended.results else "stored", "channel": command.place.wire, "state": "cancelling",
    }  # fmt: skip
    if appended.results:
        known["revision"] = appended.results[0]
    if run_id:
        known["run_id"] = run_id
    return {name: known[name] for name in command.event.results if name in known}
