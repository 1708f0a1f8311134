"""Ending a run that no worker has begun: what makes a queued run cancellable with no worker alive. Pure.

The edge may append these drafts right behind an accepted cancel of a run that is `queued` and has no `began_ms`; the consumers
append the same ones. Keys and bodies are equal, so whoever comes second adds nothing, and the guard lets neither pass once a
worker has taken the run.
"""

from __future__ import annotations

from streams.channel import Channel
from streams.envelope import Actor, Draft, Guard
from streams.json_bytes import to_json
from streams.records.runs import RUN_TTL_S, RunView, home_guard_name, run_guard_name


def is_unbegun(run: RunView) -> bool:
    """Whether nobody has ever worked on it, so that nothing but its end is missing."""
    return run.state == "queued" and not run.began_ms


def cancel_unbegun(channel: Channel, run: RunView, correlation: str) -> tuple[Draft, Draft]:
    """`agent.status queued`, in case no handler has said so yet, and `agent.complete cancelled`.

    Args:
        channel: the run's home.
        run: one that `is_unbegun`.
        correlation: that of the event that began it, or its id.
    """
    status = {"run_id": run.run_id, "agent": run.agent, "state": "queued", "attempt": 1, "segment": 1}
    complete = {
        "run_id": run.run_id, "agent": run.agent, "outcome": "cancelled", "message_ids": [], "duration_ms": 0,
        "attempts": run.attempt,
    }  # fmt: skip
    name = run_guard_name(channel, run.run_id)
    still = (("state", "in", "queued"), ("began_ms", "eq", ""))
    ends = Guard(name, checks=still, sets=(("state", "cancelled"), ("holder", "")), ttl_s=RUN_TTL_S)
    home = Guard(home_guard_name(channel), decrements=("open",))

    def draft(type_: str, payload: dict[str, object], key: str, *guards: Guard) -> Draft:
        data = to_json(payload)
        return Draft(
            channel, type_, data, Actor("agent", run.agent), command=f"{run.run_id}/{key}", correlation=correlation,
            causation=run.cause, guards=guards,
        )  # fmt: skip

    return (
        draft("agent.status", status, "status/1/1/queued", Guard(name, checks=still, ttl_s=RUN_TTL_S)),
        draft("agent.complete", complete, "complete", ends, home),
    )
