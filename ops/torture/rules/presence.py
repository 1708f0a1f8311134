"""Rules for presence: every list converges, within the promised bound, to the people who are connected."""

from __future__ import annotations

import json
from collections import defaultdict

from ops.torture import fold
from ops.torture.history import History, Op, Place, Record
from ops.torture.verdict import Verdict

Span = tuple[float, float, str, int]
"""A subscription that counts as presence: start, end, user, line."""


def judge_presence(history: History, verdict: Verdict) -> None:
    """Compare the lists read from each node, and the presence events received, with the actual subscriptions."""
    spans = _spans(history)
    bound_ms = history.bound("presence_ms", 25_000)
    for op in history.ops:
        if op.invoke["type"] == "read.presence" and op.is_ok:
            _list(history, verdict, op, spans[op.place], bound_ms)
    _told(history, verdict, spans, bound_ms)
    _false_leaves(history, verdict, spans)


def _spans(history: History) -> dict[Place, list[Span]]:
    found: dict[Place, list[Span]] = defaultdict(list)
    for lines in history.readers.values():
        line, first = lines[0]
        if first["k"] != "subscribe" or not first.get("there"):
            continue
        told = next((record["t"] for _, record in lines if record["k"] == "subscribed"), None)
        left = next((record["t"] for _, record in lines if record["k"] == "left"), float("inf"))
        if told is not None:
            found[(first["tenant"], first["channel"])].append((told, left, first["user"], line))
    return found


def _quiet_since(history: History, at_ms: float) -> float:
    """The last time, before `at_ms`, at which there was a fault; the bound counts from there."""
    ends = [record["t"] for _, record in history.of("fault") if record["t"] <= at_ms]
    running = {record["f"] for _, record in history.of("fault") if record["t"] <= at_ms and record["phase"] == "begin"}
    over = {record["f"] for _, record in history.of("fault") if record["t"] <= at_ms and record["phase"] == "end"}
    return float("inf") if running - over else max(ends, default=0.0)


def _list(history: History, verdict: Verdict, op: Op, spans: list[Span], bound_ms: float) -> None:
    """Check a list that was read after no change for at least the bound."""
    at_ms = op.began_ms
    if at_ms - _quiet_since(history, at_ms) < bound_ms:
        return
    people = op.reply.get("presence")
    if people is None:
        return
    verdict.look("presence lists")
    held = fold.presence((), people)
    for sentence, line in _differences(held, spans, at_ms, op.ended_ms, bound_ms):
        where = f"{op.invoke['channel']} of {op.invoke['tenant']}, list of {op.invoke['node']}"
        verdict.add("presence", op.ended_ms, f"{where}: {sentence}", *op.lines, line)


def _differences(
    held: dict[str, int], spans: list[Span], began_ms: float, ended_ms: float, bound_ms: float
) -> list[tuple[str, int]]:
    """People who must be listed and are not, and people who must not be listed and are."""
    found = []
    for user in sorted({span[2] for span in spans}):
        of_user = [span for span in spans if span[2] == user]
        steady = [span for span in of_user if span[0] <= began_ms - bound_ms and span[1] >= ended_ms]
        recent = [span for span in of_user if span[0] <= ended_ms and span[1] >= began_ms - bound_ms]
        if steady and user not in held:
            found.append((f"{user} is connected and not listed", steady[0][3]))
        elif user in held and not recent:
            last = max(of_user, key=lambda span: span[1])
            found.append((f"{user} is listed, but left {(began_ms - last[1]) / 1000:.1f} s ago", last[3]))
        elif user in held and len(steady) == len(recent) and held[user] != len(steady):
            found.append((f"{user} is listed with {held[user]} devices and has {len(steady)}", recent[0][3]))
    return found


def _told(history: History, verdict: Verdict, spans: dict[Place, list[Span]], bound_ms: float) -> None:
    """Compare the people that a reader knows from presence events with those connected at the end."""
    if history.end_ms - history.calm_ms < bound_ms:
        return
    for name, lines in history.readers.items():
        first = lines[0][1]
        if not first.get("presence") or any(record["k"] == "left" for _, record in lines):
            continue
        people: list[Record] | None = None
        signals: list[Record] = []
        for _, record in lines:
            if record["k"] == "subscribed" and (state := record["payload"].get("state")) is not None:
                people, signals = state.get("presence"), []
            elif record["k"] == "signal":
                signal = json.loads(record["raw"])
                if signal["type"] == "channel.presence":
                    signals.append(signal["payload"])
        if people is None:
            continue
        verdict.look("presence told")
        held = fold.presence(signals, people)
        place = first["tenant"], first["channel"]
        end = history.end_ms
        for sentence, line in _differences(held, spans[place], end, end, bound_ms):
            verdict.add(
                "presence", end, f"{place[1]} of {place[0]}, as reader {name} was told: {sentence}", lines[0][0], line
            )


def _false_leaves(history: History, verdict: Verdict, spans: dict[Place, list[Span]]) -> None:
    """Once there are no more faults, nobody with an open connection is reported as having left."""
    from_ms = history.calm_ms + history.bound("heal_ms", 10_000)
    places = {record["r"]: (record["tenant"], record["channel"]) for _, record in history.of("subscribe")}
    for line, record in history.of("signal"):
        if record["t"] < from_ms or '"channel.presence"' not in record["raw"]:
            continue
        payload = json.loads(record["raw"])["payload"]
        verdict.look("presence told while all was calm")
        for begun, left, user, begun_line in spans[places[record["r"]]]:
            is_there = user == payload["user"] and begun < record["t"] - 5_000 and left > record["t"] + 1_000
            if is_there and (payload["devices"] == 0 or payload["status"] == "joined"):
                what = "left" if payload["devices"] == 0 else "come anew to"
                sentence = f"{user} is said to have {what} {places[record['r']][1]} and was connected all the time"
                verdict.add("presence", record["t"], sentence, begun_line, line)
                break
