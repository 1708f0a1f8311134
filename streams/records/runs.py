"""An agent's run, as shared by hub and consumers: its id, and the hashes that guard its state. Pure.

Three hashes in the home channel's partition, changed only by the script that appends the corresponding event:

* `run:<channel>:<run id>`: one run: state, agent, segment, attempt, holder (the worker that may append) and a few times.
* `home:<channel>`: the channel: `open` counts its unfinished runs, `active` names the run whose turn it is.
* `request:<channel>:<request id>`: one question to a person: `open` until the first answer is stored.

Use in the hub: it appends the client's command with `opening(...)`, and the reply's `run_id` is
`run_id_of(channel, appended.id)`, or the one the client chose; a repeated command gives the first event's id and so the
same run. A `GuardRefused` on field `open` means busy, on `state` that the run id is in use (4021 both).
Everything after that (`agent.status`, the job) belongs to the consumers. See ops/decisions/0006-runs.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final, Literal

from streams.channel import Channel
from streams.envelope import Actor, Draft, Guard
from streams.json_bytes import to_json
from streams.run_states import FINAL_STATES, OPEN_STATES

RUN_TTL_S: Final = 7 * 86_400
"""Life of a run's hash after its last change. A run waits for people for a day by default; a week leaves room for
`expires_at`, and for a cancel of a finished run to be told `4021 completed` and not `4018`."""
MEANT_TTL_S: Final = 3_600
"""Life of the record of the run that a cancel without a name stopped: as long as the command's id is known."""
HOME_TTL_S: Final = 90 * 86_400
NEW_ID: Final = "@id"
"""Stands for the id of the event that is being appended (see `Guard`)."""
OnBusy = Literal["enqueue", "reject", "interrupt", "steer"]


def _place(channel: Channel) -> str:
    return blake2b(channel.path.encode(), digest_size=5).hexdigest()


def run_id_of(channel: Channel, event_id: str) -> str:
    """The run begun by the event with this id, when its payload names no `run_id`. `@id` gives the guard's template."""
    return f"r{_place(channel)}-{event_id}"


def event_of_run(channel: Channel, run_id: str) -> str | None:
    """The event a derived run id was made from; None for an id that an invoker chose."""
    prefix = run_id_of(channel, "")
    return run_id.removeprefix(prefix) if run_id.startswith(prefix) else None


def message_id_of(run_id: str, number: int) -> str:
    """The id of the run's message `number`, counted from 0."""
    return f"{run_id}.{number}"


def request_id_of(run_id: str, number: int) -> str:
    """The id of the run's question `number`, counted from 0."""
    return f"{run_id}.q{number}"


def run_of_message(message_id: str) -> str:
    """The run an assistant's message belongs to."""
    return message_id.rpartition(".")[0]


def run_guard_name(channel: Channel, run_id: str) -> str:
    """The name of the run's guard hash."""
    return f"run:{channel.wire}:{run_id}"


def home_guard_name(channel: Channel) -> str:
    """The name of the hash that counts the channel's runs."""
    return f"home:{channel.wire}"


def request_guard_name(channel: Channel, request_id: str) -> str:
    """The name of the hash that lets one answer through."""
    return f"request:{channel.wire}:{request_id}"


def meant_guard_name(channel: Channel, user: str, command_id: str) -> str:
    """The name of the hash that remembers the target of a cancel."""
    return f"meant:{channel.wire}:{user}:{command_id}"


@dataclass(frozen=True, slots=True)
class Invitation:
    """A run as the hub requests it.

    Attributes:
        run_id: chosen by the invoker; None derives it from the event.
        parent: the message the answer follows; `@id` is the event itself, "" where the hub does not know.
        deadline_ms: how long one segment may run; None takes the default.
        slot: the slot it takes among concurrent runs; "" where they are not counted.
    """

    agent: str
    by: str
    now_ms: int
    on_busy: OnBusy = "enqueue"
    run_id: str | None = None
    parent: str = NEW_ID
    deadline_ms: int | None = None
    slot: str = ""


def opening(channel: Channel, invitation: Invitation) -> tuple[Guard, ...]:
    """The guards for the command that begins a run.

    The new `open` count is `Appended.results[0]`: 1 means the channel's only run, more means that it waits its turn.
    """
    run_id = invitation.run_id or run_id_of(channel, NEW_ID)
    checks = (("open", "le", "0"),) if invitation.on_busy == "reject" else ()
    sets = [
        ("state", "queued"),
        ("agent", invitation.agent),
        ("by", invitation.by),
        ("cause", NEW_ID),
        ("segment", "1"),
        ("attempt", "1"),
        ("parent", invitation.parent),
        ("on_busy", invitation.on_busy),
        ("since_ms", str(invitation.now_ms)),
    ]
    if invitation.deadline_ms is not None:
        sets.append(("limit_ms", str(invitation.deadline_ms)))
    if invitation.slot:
        sets.append(("slot", invitation.slot))
    run = Guard(run_guard_name(channel, run_id), checks=(("state", "eq", ""),), sets=tuple(sets), ttl_s=RUN_TTL_S)
    return Guard(home_guard_name(channel), checks=checks, increments=("open",), ttl_s=HOME_TTL_S), run


def cancelling(channel: Channel, run_id: str, mode: Literal["graceful", "force"] = "graceful") -> Guard:
    """The guard for `chat.cancel` and `agent.cancel`. Refused on field `state`: `present` None is 4018, else 4021."""
    states = ",".join(OPEN_STATES)
    return Guard(run_guard_name(channel, run_id), checks=(("state", "in", states),), sets=(("cancel", mode),))


def meaning(channel: Channel, user: str, command_id: str, run_id: str) -> Guard:
    """Remember the run that a cancel without a run id stops, so that repeating the command stops the same one."""
    return Guard(meant_guard_name(channel, user, command_id), sets=(("run_id", run_id),), ttl_s=MEANT_TTL_S)


def answering(channel: Channel, request_id: str, user: str) -> Guard:
    """The guard for `tool.call.response`: the first one wins. Refused: `present` None is 4018, else 4021."""
    return Guard(
        request_guard_name(channel, request_id),
        checks=(("state", "eq", "open"),),
        sets=(("state", "answered"), ("by", user), ("answer", NEW_ID)),
    )


def steering(channel: Channel, run_id: str) -> Guard:
    """The guard for `agent.steer`: the run must not be final."""
    return Guard(run_guard_name(channel, run_id), checks=(("state", "in", ",".join(OPEN_STATES[:3])),))


@dataclass(frozen=True, slots=True)
class RunView:
    """A run's hash, parsed.

    Attributes:
        cause: id of the event that began it.
        holder: token of the worker that may append for it; "" when no worker may.
        limit_ms: how long a segment may run; 0 is the default.
        deadline_ms: end of the current state, in milliseconds since 1970; 0 is the state's default.
        asked: questions asked so far; `answered` of them are resolved.
        losses: number of workers lost during this run.
        cancel: "", or the mode of a requested stop.
        slot: the slot it takes among concurrent runs; "" for none.
        settings: the conversation's settings at its beginning, as JSON; "" for none, and after its end.
    """

    run_id: str
    state: str
    agent: str
    by: str
    cause: str
    parent: str = ""
    on_busy: str = "enqueue"
    segment: int = 1
    attempt: int = 1
    since_ms: int = 0
    limit_ms: int = 0
    deadline_ms: int = 0
    began_ms: int = 0
    holder: str = ""
    asked: int = 0
    answered: int = 0
    losses: int = 0
    cancel: str = ""
    settings: str = ""
    slot: str = ""

    @property
    def is_final(self) -> bool:
        """True when its `agent.complete` was appended."""
        return self.state in FINAL_STATES


def read_run(run_id: str, fields: Mapping[str, str]) -> RunView | None:
    """The run a hash holds; None for an empty one."""
    if "state" not in fields:
        return None

    def number(name: str, default: int = 0) -> int:
        return int(fields.get(name, default))

    def word(name: str) -> str:
        return fields.get(name, "")

    return RunView(
        run_id,
        word("state"),
        word("agent"),
        word("by"),
        word("cause"),
        word("parent"),
        word("on_busy") or "enqueue",
        number("segment", 1),
        number("attempt", 1),
        number("since_ms"),
        number("limit_ms"),
        number("deadline_ms"),
        number("began_ms"),
        word("holder"),
        number("asked"),
        number("answered"),
        number("losses"),
        word("cancel"),
        word("settings"),
        word("slot"),
    )


@dataclass(frozen=True, slots=True)
class RequestView:
    """A question's hash, parsed: checked before an answer is stored.

    Attributes:
        state: open, answered, expired or cancelled.
        assignees: users who may answer; empty means everybody who may invoke.
        expires_ms: in milliseconds since 1970; a later answer is refused with 4022. 0 means never.
    """

    request_id: str
    run_id: str
    state: str
    kind: str
    tool_call_id: str = ""
    may_edit: bool = False
    assignees: tuple[str, ...] = field(default=())
    expires_ms: int = 0


def read_request(request_id: str, fields: Mapping[str, str]) -> RequestView | None:
    """The question a hash holds; None for an empty one."""
    if "state" not in fields:
        return None
    assignees = tuple(name for name in fields.get("assignees", "").split(",") if name)
    return RequestView(
        request_id,
        fields.get("run_id", ""),
        fields["state"],
        fields.get("kind", ""),
        fields.get("call", ""),
        fields.get("edit", "") == "1",
        assignees,
        int(fields.get("expires_ms", 0)),
    )


def is_unbegun(run: RunView) -> bool:
    """True when no worker has begun it, so that only its end is missing."""
    return run.state == "queued" and not run.began_ms


def cancel_unbegun(channel: Channel, run: RunView, correlation: str) -> tuple[Draft, Draft]:
    """The drafts `agent.status queued`, in case no handler has appended it yet, and `agent.complete cancelled`.

    The edge may append them right behind an accepted cancel of a run that is `queued` and has no `began_ms`, so that a queued run
    is cancellable with no worker alive; the consumers append the same ones. Keys and bodies are equal, so the second
    writer adds nothing, and the guard stops both once a worker has taken the run.

    Args:
        channel: the run's home.
        run: one that `is_unbegun`.
        correlation: that of the event that began it, or its id.
    """
    status = {"run_id": run.run_id, "agent": run.agent, "state": "queued", "attempt": 1, "segment": 1}
    complete = {
        "run_id": run.run_id,
        "agent": run.agent,
        "outcome": "cancelled",
        "message_ids": [],
        "duration_ms": 0,
        "attempts": run.attempt,
    }
    name = run_guard_name(channel, run.run_id)
    still = (("state", "in", "queued"), ("began_ms", "eq", ""))
    ends = Guard(name, checks=still, sets=(("state", "cancelled"), ("holder", "")), ttl_s=RUN_TTL_S)
    home = Guard(home_guard_name(channel), decrements=("open",))

    def draft(type_: str, payload: dict[str, object], key: str, *guards: Guard) -> Draft:
        data = to_json(payload)
        return Draft(
            channel,
            type_,
            data,
            Actor("agent", run.agent),
            command=f"{run.run_id}/{key}",
            correlation=correlation,
            causation=run.cause,
            guards=guards,
        )

    return (
        draft("agent.status", status, "status/1/1/queued", Guard(name, checks=still, ttl_s=RUN_TTL_S)),
        draft("agent.complete", complete, "complete", ends, home),
    )
