"""The record of an agent's run, as hub and consumers share it: its ID, and the guards that protect its state. Pure.

Three hashes in the partition of the run's channel, changed only by the script that appends the corresponding event:

* `run:<channel>:<run id>`: one run: state, agent, segment, attempt, holder (the worker that may append) and a few times.
* `home:<channel>`: the channel: `open` counts its unfinished runs, `active` names the run whose turn it is.
* `request:<channel>:<request id>`: one question to a person: `open` until the first answer is stored.

The hub appends the client's command with the guards of `opening(...)`. The reply's `run_id` is `run_id_of(channel,
appended.id)`, or the one that the client chose; a repeated command gives the first event's ID and so the same run. A
`GuardRefused` on field `open` means that the channel is busy, on `state` that the run ID is in use (both are 4021). Everything
after that (`agent.status`, the job) is done by the consumers. See ops/decisions/0006-runs.md.
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
"""Lifetime of a run's hash after its last change. By default a run waits a day for an answer; a week leaves room for
`expires_at`, and lets the cancel of a finished run fail with `4021 completed` and not `4018`.
"""
MEANT_TTL_S: Final = 3_600
"""Lifetime of the record of a cancel without `run_id` and the run it stopped: as long as the command ID is remembered."""
HOME_TTL_S: Final = 90 * 86_400
NEW_ID: Final = "@id"
"""Placeholder for the ID of the event that is being appended (see `Guard`)."""
OnBusy = Literal["enqueue", "reject", "interrupt", "steer"]


def _place(channel: Channel) -> str:
    return blake2b(channel.path.encode(), digest_size=5).hexdigest()


def run_id_of(channel: Channel, event_id: str) -> str:
    """The ID of the run begun by this event if its payload has no `run_id`. For `@id`, the result is the template in a guard."""
    return f"r{_place(channel)}-{event_id}"


def event_of_run(channel: Channel, run_id: str) -> str | None:
    """The event from which a run ID was derived; None for an ID that the client chose."""
    prefix = run_id_of(channel, "")
    return run_id.removeprefix(prefix) if run_id.startswith(prefix) else None


def message_id_of(run_id: str, number: int) -> str:
    """The ID of the run's message `number`, counted from 0."""
    return f"{run_id}.{number}"


def request_id_of(run_id: str, number: int) -> str:
    """The ID of the run's question `number`, counted from 0."""
    return f"{run_id}.q{number}"


def run_of_message(message_id: str) -> str:
    """The ID of the run that an assistant message belongs to."""
    return message_id.rpartition(".")[0]


def run_guard_name(channel: Channel, run_id: str) -> str:
    """The name of the guard hash of a run."""
    return f"run:{channel.wire}:{run_id}"


def home_guard_name(channel: Channel) -> str:
    """The name of the guard hash that counts the channel's runs."""
    return f"home:{channel.wire}"


def request_guard_name(channel: Channel, request_id: str) -> str:
    """The name of the guard hash of a question, which accepts only the first answer."""
    return f"request:{channel.wire}:{request_id}"


def meant_guard_name(channel: Channel, user: str, command_id: str) -> str:
    """The name of the guard hash that records which run a cancel command stopped."""
    return f"meant:{channel.wire}:{user}:{command_id}"


@dataclass(frozen=True, slots=True)
class Invitation:
    """The run that a command requests, with its options.

    Attributes:
        run_id: chosen by the client; None derives it from the event.
        parent: the message that the answer follows; `@id` is the command's own event, "" if the hub does not know it.
        deadline_ms: maximum duration of one segment, in milliseconds; None for the default.
        slot: its slot among concurrent runs; "" if they are not limited.
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
    """The guards of a command that begins a run.

    The new `open` count is `Appended.results[0]`: 1 means that it is the channel's only run, more that it waits its turn.
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
    """The guard of `chat.cancel` and `agent.cancel`. If refused on field `state`: `present` None is 4018, any other value 4021."""
    states = ",".join(OPEN_STATES)
    return Guard(run_guard_name(channel, run_id), checks=(("state", "in", states),), sets=(("cancel", mode),))


def meaning(channel: Channel, user: str, command_id: str, run_id: str) -> Guard:
    """The guard that records which run a cancel without a run ID stopped, so that a repeated command stops the same one."""
    return Guard(meant_guard_name(channel, user, command_id), sets=(("run_id", run_id),), ttl_s=MEANT_TTL_S)


def answering(channel: Channel, request_id: str, user: str) -> Guard:
    """The guard of `tool.call.response`, which accepts only the first answer. If refused: `present` None is 4018, else 4021."""
    return Guard(
        request_guard_name(channel, request_id),
        checks=(("state", "eq", "open"),),
        sets=(("state", "answered"), ("by", user), ("answer", NEW_ID)),
    )


def steering(channel: Channel, run_id: str) -> Guard:
    """The guard of `agent.steer`, which refuses a final run."""
    return Guard(run_guard_name(channel, run_id), checks=(("state", "in", ",".join(OPEN_STATES[:3])),))


@dataclass(frozen=True, slots=True)
class RunView:
    """A run's hash, parsed.

    Attributes:
        cause: ID of the event that began the run.
        holder: token of the worker that may append for it; "" if none may.
        limit_ms: maximum duration of a segment, in milliseconds; 0 is the default.
        deadline_ms: end of the current state, in milliseconds since 1970; 0 is the state's default.
        asked: number of questions asked so far; `answered` of them are resolved.
        losses: number of workers lost during this run.
        cancel: the mode of a requested stop; "" if none was requested.
        slot: its slot among concurrent runs; "" for none.
        settings: the conversation's settings at the start of the run, as JSON; "" for none, and after the run's end.
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
        """True once its `agent.complete` has been appended."""
        return self.state in FINAL_STATES


def read_run(run_id: str, fields: Mapping[str, str]) -> RunView | None:
    """Parse a run's hash; None if it is empty."""
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
    """A question's hash, parsed; an answer is checked against it before it is stored.

    Attributes:
        state: open, answered, expired or cancelled.
        assignees: users who may answer; if empty, every user who may invoke the agent.
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
    """Parse a question's hash; None if it is empty."""
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
    """True if no worker has begun the run, so that it can be ended without one."""
    return run.state == "queued" and not run.began_ms


def cancel_unbegun(
    channel: Channel, run: RunView, correlation: str, traceparent: str | None = None
) -> tuple[Draft, Draft]:
    """The drafts that end a run before it has begun: `agent.status queued`, if not yet appended, and `agent.complete cancelled`.

    The hub may append them right after it has accepted the cancel of a run that is `queued` and has no `began_ms`, so that a
    queued run can be cancelled while no worker is running. The consumers append the same drafts. Keys and bodies are equal, so
    the second writer adds nothing, and the guard refuses both once a worker has taken the run.

    Args:
        channel: the run's channel.
        run: a run for which `is_unbegun` is true.
        correlation: the correlation of the event that began it, or that event's ID.
        traceparent: the trace of the event that began it.
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
            traceparent=traceparent,
        )

    return (
        draft("agent.status", status, "status/1/1/queued", Guard(name, checks=still, ttl_s=RUN_TTL_S)),
        draft("agent.complete", complete, "complete", ends, home),
    )
