"""Rules for states: they are compared with the projections, and with a second, independent fold."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from ops.torture import fold
from ops.torture.history import History, Place, Record
from ops.torture.rules.answers import judge_live
from ops.torture.verdict import Verdict
from projections.channel_state import ChannelState
from projections.recorded import Recorded
from streams.channel import Kind

_NAMES = ("id", "seq", "type", "v", "actor", "meta", "payload")


@dataclass(frozen=True, slots=True)
class Shown:
    """A state that a client received."""

    place: Place
    t: float
    seq: int
    state: Record
    line: int
    source: str


def judge_state(history: History, verdict: Verdict) -> None:
    """Every state equals the fold of the events up to its `state_at`, as they were at that time."""
    _as_of(history, verdict)
    by_place: dict[Place, list[Shown]] = defaultdict(list)
    for shown in _states(history):
        by_place[shown.place].append(shown)
    for place, found in by_place.items():
        for life in _lives(history, place, found):
            _compare(history, verdict, place, life)


def _as_of(history: History, verdict: Verdict) -> None:
    """A state requested as of an event has that event's seq."""
    for op in history.ops:
        at = op.invoke["payload"].get("at") if op.invoke["type"] == "read.state" else None
        if at is None or not op.is_ok or any(loss.touches(op.place) for loss in history.losses):
            continue
        seqs = history.sightings.get(op.place, {})
        due = next((seq for seq, held in seqs.items() for event_id, *_ in held.values() if event_id == at), None)
        if due is None:
            continue
        verdict.look("states of the past")
        if op.reply["state_at"] != due:
            sentence = (
                f"the state of {op.invoke['channel']} as of {at}, seq {due}, stands at seq {op.reply['state_at']}"
            )
            verdict.add("state", op.ended_ms, sentence, *op.lines)


def _states(history: History) -> list[Shown]:
    found = []
    for op in history.ops:
        if op.invoke["type"] == "read.state" and op.is_ok and op.end is not None:
            source = f"{op.invoke['via']} of {op.invoke['node']}"
            reply = op.reply
            found.append(Shown(op.place, op.ended_ms, reply["state_at"], reply["state"], op.end, source))
    tenants = {record["r"]: record for _, record in history.of("subscribe")}
    for line, record in history.of("subscribed"):
        payload = record["payload"]
        if payload.get("state") and payload.get("state_scope", "full") == "full":
            reader = tenants[record["r"]]
            place = reader["tenant"], reader["channel"]
            found.append(
                Shown(
                    place, record["t"], payload["state_at"], payload["state"], line, f"subscription at {reader['node']}"
                )
            )
    return found


def _lives(history: History, place: Place, found: list[Shown]) -> list[list[Shown]]:
    """The states grouped by the losses between them. Those close to a loss are omitted, because their events are not certain."""
    slack_ms = history.bound("heal_ms", 10_000)
    edges = [loss for loss in history.losses if loss.touches(place)]
    lives: dict[int, list[Shown]] = defaultdict(list)
    for shown in found:
        if any(loss.begin_ms - 1_000 <= shown.t <= loss.end_ms + slack_ms for loss in edges):
            continue
        lives[sum(loss.end_ms < shown.t for loss in edges)].append(shown)
    return list(lives.values())


def _compare(history: History, verdict: Verdict, place: Place, life: list[Shown]) -> None:
    life.sort(key=lambda shown: shown.seq)
    for shown in life:
        for sentence in judge_live(history, place, shown.state, shown.seq):
            where = f"{place[1]} of {place[0]}, state at seq {shown.seq} ({shown.source})"
            verdict.add("state", shown.t, f"{where}: {sentence}", shown.line)
    events = _events_of(history, place, life)
    state = ChannelState.begin(Kind(place[1].partition(":")[0]))
    known: list[Record] = []
    for shown in life:
        while state.seq < shown.seq and (event := events.get(state.seq + 1)) is not None:
            state.advance(Recorded(*({**event, "meta": event.get("meta", {})}[name] for name in _NAMES)))
            known.append(event)
        if state.seq < shown.seq:
            verdict.tell("states whose events nobody saw")
            continue
        verdict.look("states")
        named: set[str] = set()
        for name, why in _differences(json.loads(state.render()), known, shown, place):
            kind = "unread" if name == "unread" else "state"
            if kind not in named:
                where = f"{place[1]} of {place[0]}, state at seq {shown.seq} ({shown.source})"
                verdict.add(kind, shown.t, f"{where}: {name} is not the fold: {why}", shown.line)
            named.add(kind)


def _events_of(history: History, place: Place, life: list[Shown]) -> dict[int, Record]:
    """The channel's events by seq in that period: in the last period the stored ones; earlier, those seen with only one content."""
    last_loss_ms = max((loss.end_ms for loss in history.losses if loss.touches(place)), default=0.0)
    log, until_ms = history.logs.get(place), max(shown.t for shown in life)
    if last_loss_ms and log is not None and life[0].t > last_loss_ms:
        return {seq: history.event(name) for seq, _, name, _ in log.entries}
    return {
        seq: history.event(next(iter(held)))
        for seq, held in history.sightings.get(place, {}).items()
        if not last_loss_ms or (len(held) == 1 and min(first for _, first, _, _ in held.values()) <= until_ms)
    }


def _differences(folded: Record, events: list[Record], shown: Shown, place: Place) -> list[tuple[str, str]]:
    truncated = shown.state.get("truncated", {})
    found = [
        (name, _first_difference(value, shown.state.get(name)))
        for name, value in folded.items()
        if name not in {"metadata", *truncated} and shown.state.get(name) != value
    ]
    kind = place[1].partition(":")[0]
    if kind == "conversation":
        second = fold.conversation(events)
        for name, value in second.items():
            theirs = shown.state.get(name)
            if name == "messages":
                theirs = [{key: held for key, held in message.items() if key != "parts"} for message in theirs or []]
            if name not in truncated and theirs != value:
                found.append((name, "by the second fold, " + _first_difference(value, theirs)))
    if kind == "user":
        second = fold.inbox(events)
        if second["unread"] != shown.state.get("unread"):
            found.append(("unread", f"by the second fold, {second['unread']}, not {shown.state.get('unread')}"))
        names = [item["id"] for item in shown.state.get("notifications", [])]
        if second["notifications"] != names:
            found.append(("notifications", "by the second fold, others are unread"))
    return found


def _first_difference(due: Any, shown: Any) -> str:
    if isinstance(due, list) and isinstance(shown, list):
        for at, (one, two) in enumerate(zip(due, shown, strict=False)):
            if one != two:
                return f"item {at} is {_short(two)} and should be {_short(one)}"
        return f"{len(shown)} items where {len(due)} are due"
    return f"{_short(shown)} and should be {_short(due)}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 160 else text[:160] + "…"  # noqa: PLR2004 - a line of a report
