"""Rules that compare receipts with the log: lost, duplicated, invented, altered and reordered events, and false receipts."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final

from ops.torture.history import History, Op, Place, Record
from ops.torture.verdict import Verdict

NOT_COMMANDS: Final = ("read.", "file.put", "file.get", "token.")
"""Prefixes of the types of operations that store nothing."""


def judge_log(history: History, verdict: Verdict) -> None:
    """Compare every command with every channel."""
    _disorder(history, verdict)
    stored = _stored_commands(history)
    commands = [op for op in history.ops if not op.invoke["type"].startswith(NOT_COMMANDS)]
    verdict.look("commands", len(commands))
    _acknowledged(history, verdict, commands)
    _answers(history, verdict, commands)
    _phantoms(history, verdict, commands)
    _twice(history, verdict, stored)
    _real_time(history, verdict, commands)
    _pipelines(history, verdict, commands)
    _refusals(history, verdict, commands)
    _open_after_calm(history, verdict)


def is_stored_receipt(payload: Record) -> bool:
    """True if a reply says that an event was stored."""
    return "seq" in payload and "id" in payload and "durability" in payload


def _stored_commands(history: History) -> dict[tuple[str, str, str], list[tuple[Place, int, str, int]]]:
    """(Channel, seq, ID, line) of each (tenant, user, command) in the logs as read at the end."""
    found: dict[tuple[str, str, str], list[tuple[Place, int, str, int]]] = defaultdict(list)
    for place, log in history.logs.items():
        for seq, event_id, name, line in log.entries:
            event = history.event(name)
            command = event.get("meta", {}).get("command")
            if command and event["actor"]["kind"] == "user":
                found[(place[0], event["actor"]["id"], command)].append((place, seq, event_id, line))
    return found


def _disorder(history: History, verdict: Verdict) -> None:
    """Seqs have no gaps and IDs increase; every entry belongs to its channel and contains its own seq and ID."""
    for place, log in history.logs.items():
        last_seq, last_id, last_line = None, (0, 0), -1
        for seq, event_id, name, line in log.entries:
            verdict.look("stored")
            t = history.records[line]["t"]
            if last_seq is not None and seq != last_seq + 1:
                verdict.add("log disorder", t, f"{_of(place)} holds seq {seq} behind {last_seq}", last_line, line)
            if order_of(event_id) <= last_id:
                verdict.add("log disorder", t, f"id {event_id} of {_of(place)} does not rise", last_line, line)
            event = history.event(name)
            if (event["channel"], event["seq"], event["id"]) != (place[1], seq, event_id):
                verdict.add(
                    "log disorder",
                    t,
                    f"{event_id} of {_of(place)} contains another channel, seq or id than its entry",
                    line,
                )
            last_seq, last_id, last_line = seq, order_of(event_id), line


def order_of(event_id: str) -> tuple[int, int]:
    """An event ID as a pair of numbers, for comparison."""
    ms, _, number = event_id.partition("-")
    return int(ms), int(number or 0)


def _acknowledged(history: History, verdict: Verdict, commands: list[Op]) -> None:
    """Every acknowledged event is stored, unaltered, at the position given in its receipt."""
    first_sent: dict[tuple[str, str, str], float] = {}
    for op in commands:
        key = (op.invoke["tenant"], op.invoke["user"], op.invoke.get("id", ""))
        sent_ms = first_sent.setdefault(key, op.began_ms)
        if not op.is_ok or not is_stored_receipt(op.reply):
            continue
        verdict.look("acknowledged")
        receipt, place = op.reply, op.place
        verdict.sample(f"ack {receipt['durability']}", op.ended_ms - op.began_ms)
        log = history.logs.get(place)
        if log is None:
            continue  # the channel could not be read at the end, which another rule reports
        found = _at(history, place, int(receipt["seq"]))
        is_excused = any(
            loss.excuses(place, receipt["durability"], sent_ms, op.began_ms, op.ended_ms) for loss in history.losses
        )
        if found is None or found[1] != receipt["id"]:
            if is_excused:
                verdict.tell("acknowledged and destroyed by a fault that may")
                continue
            elsewhere = _where(history, place, op)
            if elsewhere is None:
                level = receipt["durability"]
                sentence = f"{_command(op)} was acknowledged ({level}) as seq {receipt['seq']} and is not stored"
                verdict.add("lost", op.ended_ms, sentence, *op.lines)
            else:
                sentence = f"{_command(op)} was acknowledged as seq {receipt['seq']} and is stored as seq {elsewhere}"
                verdict.add("lying receipt", op.ended_ms, sentence, *op.lines)
            continue
        _compare_content(history, verdict, op, found)


def _compare_content(history: History, verdict: Verdict, op: Op, found: tuple[int, str, str, int]) -> None:
    event = history.event(found[2])
    same = event.get("meta", {}).get("command"), event["actor"]["id"], event["type"]
    if same != (op.invoke["id"], op.invoke["user"], op.invoke["type"]):
        sentence = f"the receipt of {_command(op)} names an event of {same[1]}'s {same[0]}"
        verdict.add("lying receipt", op.ended_ms, sentence, *op.lines, found[3])
    elif not contains(event["payload"], op.invoke["payload"]):
        sentence = f"{_command(op)} is stored with another payload"
        verdict.add("altered", op.ended_ms, sentence, *op.lines, found[3])


def contains(stored: Any, sent: Any) -> bool:
    """True if the stored payload contains everything that was sent."""
    if isinstance(sent, dict) and isinstance(stored, dict):
        return all(name in stored and contains(stored[name], value) for name, value in sent.items())
    return bool(stored == sent)


def _at(history: History, place: Place, seq: int) -> tuple[int, str, str, int] | None:
    entries = history.logs[place].entries
    if not entries:
        return None
    at = seq - entries[0][0]
    if 0 <= at < len(entries) and entries[at][0] == seq:
        return entries[at]
    return next((entry for entry in entries if entry[0] == seq), None)


def _where(history: History, place: Place, op: Op) -> int | None:
    """The seq under which a command is stored in its channel; None if it is not."""
    for seq, _, name, _ in history.logs[place].entries:
        event = history.event(name)
        if event.get("meta", {}).get("command") == op.invoke.get("id") and event["actor"]["id"] == op.invoke["user"]:
            return seq
    return None


def _answers(history: History, verdict: Verdict, commands: list[Op]) -> None:
    """All replies to a command agree, however often it is sent and whichever node replies; only one says it is not a duplicate."""
    answered: dict[tuple[str, str, str], list[Op]] = defaultdict(list)
    for op in commands:
        if op.is_ok and is_stored_receipt(op.reply) and op.invoke.get("id"):
            answered[(op.invoke["tenant"], op.invoke["user"], op.invoke["id"])].append(op)
    for ops in answered.values():
        ops.sort(key=lambda op: op.ended_ms)
        first = ops[0]
        for op in ops[1:]:
            verdict.look("repeated answers")
            if history.has_loss(op.place, first.began_ms, op.ended_ms):
                first = op
            elif (op.reply["id"], op.reply["seq"]) != (first.reply["id"], first.reply["seq"]):
                sentence = f"{_command(op)} was answered with seq {first.reply['seq']} and with seq {op.reply['seq']}"
                verdict.add("two answers", op.ended_ms, sentence, *first.lines, *op.lines)
            elif not op.reply["duplicate"] and not first.reply["duplicate"]:
                sentence = f"{_command(op)} was twice answered as new"
                verdict.add("two answers", op.ended_ms, sentence, *first.lines, *op.lines)
    _first_answers(history, verdict, commands)


def _first_answers(history: History, verdict: Verdict, commands: list[Op]) -> None:
    """A command sent for the first time, while there is no fault, is not reported as a duplicate."""
    sent: set[tuple[str, str, str]] = set()
    for op in commands:
        key = (op.invoke["tenant"], op.invoke["user"], op.invoke.get("id", ""))
        if key not in sent and op.reply.get("duplicate") and not history.is_disturbed(op.began_ms, op.ended_ms):
            sentence = f"{_command(op)} was sent for the first time and called a duplicate"
            verdict.add("lying receipt", op.ended_ms, sentence, *op.lines)
        sent.add(key)


def _phantoms(history: History, verdict: Verdict, commands: list[Op]) -> None:
    """Every event of a person corresponds to a command that was sent; every other event names the event that caused it."""
    sent: dict[tuple[str, str, str], list[Op]] = defaultdict(list)
    for op in commands:
        sent[(op.invoke["tenant"], op.invoke["user"], op.invoke.get("id", ""))].append(op)
    known: dict[str, set[str]] = defaultdict(set)
    for (tenant, _), seqs in history.sightings.items():
        known[tenant].update(event_id for held in seqs.values() for event_id, *_ in held.values())
    for place, seqs in history.sightings.items():
        for seq, held in seqs.items():
            for name, (event_id, first_ms, _, line) in held.items():
                event = history.event(name)
                meta, actor = event.get("meta", {}), event["actor"]
                if actor["kind"] == "user":
                    ops = sent.get((place[0], actor["id"], meta.get("command", "")), [])
                    if not any(_is_of(op, place, event, first_ms) for op in ops):
                        lines = [line, *(op.begin for op in ops[:2])]
                        sentence = (
                            f"{event['type']} seq {seq} of {_of(place)} ({event_id}) does not correspond to any command"
                        )
                        verdict.add("phantom", first_ms, sentence, *lines)
                elif meta.get("causation") not in known[place[0]] and not history.losses:
                    sentence = f"{event['type']} seq {seq} of {_of(place)} names no event that caused it"
                    verdict.add("phantom", first_ms, sentence, line)


def _is_of(op: Op, place: Place, event: Record, seen_ms: float) -> bool:
    return (
        op.place == place
        and op.invoke["type"] == event["type"]
        and op.began_ms <= seen_ms
        and contains(event["payload"], op.invoke["payload"])
    )


def _twice(
    history: History, verdict: Verdict, stored: dict[tuple[str, str, str], list[tuple[Place, int, str, int]]]
) -> None:
    for (_, user, command), found in stored.items():
        if len(found) > 1:
            lines = [line for *_, line in found]
            places = ", ".join(f"seq {seq} of {place[1]}" for place, seq, _, _ in found[:4])
            sentence = f"command {command} of {user} is stored {len(found)} times: {places}"
            verdict.add("stored twice", history.records[lines[0]]["t"], sentence, *lines)


def _real_time(history: History, verdict: Verdict, commands: list[Op]) -> None:
    """An event published after another one was acknowledged has a higher seq."""
    first_sent: dict[tuple[str, str, str], Op] = {}
    by_place: dict[Place, dict[int, tuple[Op, Op]]] = defaultdict(dict)
    for op in commands:
        key = (op.invoke["tenant"], op.invoke["user"], op.invoke.get("id", ""))
        first_sent.setdefault(key, op)
        if op.is_ok and is_stored_receipt(op.reply):
            by_place[op.place].setdefault(int(op.reply["seq"]), (first_sent[key], op))
    for place, found in by_place.items():
        if any(loss.touches(place) for loss in history.losses):
            continue  # its seqs were assigned more than once
        earliest: Op | None = None
        for seq in sorted(found, reverse=True):
            begun, acked = found[seq]
            if earliest is not None and earliest.ended_ms < begun.began_ms:
                sentence = (
                    f"{_command(acked)} began after {_command(earliest)} was acknowledged and stands before it, "
                    f"seq {seq} before {earliest.reply['seq']} in {_of(place)}"
                )
                verdict.add("real time", acked.ended_ms, sentence, *earliest.lines, begun.begin, *acked.lines)
            if earliest is None or acked.ended_ms < earliest.ended_ms:
                earliest = acked


def _pipelines(history: History, verdict: Verdict, commands: list[Op]) -> None:
    """Messages sent one after the other on a connection are stored in that order."""
    last: dict[tuple[str, Place], Op] = {}
    sent: set[tuple[str, str, str]] = set()
    for op in commands:
        key = (op.invoke["tenant"], op.invoke["user"], op.invoke.get("id", ""))
        is_first = key not in sent
        sent.add(key)
        is_plain = op.invoke["type"] == "chat.message" and "agent" not in op.invoke["payload"] and "c" in op.invoke
        if not (is_first and is_plain and op.is_ok and is_stored_receipt(op.reply)) or op.reply["duplicate"]:
            continue
        verdict.look("pipelined messages")
        before = last.get((op.invoke["c"], op.place))
        has_loss = before is not None and history.has_loss(op.place, before.began_ms, op.ended_ms)
        if before is not None and op.reply["seq"] < before.reply["seq"] and not has_loss:
            sentence = f"{_command(op)} was sent behind {_command(before)} on one connection and is stored before it"
            verdict.add("pipeline order", op.ended_ms, sentence, *before.lines, *op.lines)
        last[(op.invoke["c"], op.place)] = op


_STORE_FULL: Final = 4011
_FULL_MS: Final = 5_000
"""Time for which a node may still consider Redis full after it no longer is."""
_NEVER_DUE: Final = frozenset({4003, 4005, 4006, 4009, 4011})
"""Error codes that no command in the run should get."""


def _refusals(history: History, verdict: Verdict, commands: list[Op]) -> None:
    """A valid, permitted command is not refused as malformed, forbidden or already used."""
    full = history.times_of("redis full")
    for op in commands:
        if op.outcome is not None and op.outcome["k"] == "fail" and op.outcome["code"] in _NEVER_DUE:
            if op.outcome["code"] == _STORE_FULL and any(
                a <= op.ended_ms and op.began_ms <= b + _FULL_MS for a, b in full
            ):
                continue  # its tenant has used up its share of the reserve
            sentence = f"{_command(op)} was refused with {op.outcome['code']}"
            verdict.add("needless refusal", op.ended_ms, sentence, *op.lines)


def _open_after_calm(history: History, verdict: Verdict) -> None:
    """Once there are no more faults, every command is answered, and none with "try again later"."""
    grace_ms = history.bound("heal_ms", 10_000)
    for op in history.ops:
        if op.began_ms < history.calm_ms + grace_ms:
            continue
        if op.outcome is None or op.outcome["k"] == "unknown":
            why = op.outcome["why"] if op.outcome else "no answer"
            verdict.add(
                "unanswered", op.began_ms, f"{_command(op)} has no answer although all was calm: {why}", *op.lines
            )


def _command(op: Op) -> str:
    return f"{op.invoke['type']} {op.invoke.get('id', op.invoke['op'])} of {op.invoke['user']}"


def _of(place: Place) -> str:
    return f"{place[1]} of {place[0]}"
