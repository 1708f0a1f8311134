"""Rules for files (byte for byte), read positions (never decreasing), and tokens (invalid after their end)."""

from __future__ import annotations

from collections import defaultdict

from ops.torture.history import History, Op, Place
from ops.torture.verdict import Verdict


def judge_files(history: History, verdict: Verdict) -> None:
    """Check uploads and downloads."""
    put: dict[tuple[str, str], Op] = {}
    for op in history.ops:
        if op.invoke["type"] == "file.put" and op.invoke["payload"].get("file_id"):
            put[(op.invoke["tenant"], op.invoke["payload"]["file_id"])] = op
    ends: dict[tuple[str, str], list[tuple[str, int, float]]] = defaultdict(list)
    for place, log in history.logs.items():
        for _, _, name, line in log.entries:
            event = history.event(name)
            if event["type"] in {"file.ready", "file.upload.failed"}:
                file_id = event["payload"].get("file_id") or event["payload"]["upload_id"]
                ends[(place[0], file_id)].append((event["type"], line, history.records[line]["t"]))
    for key, found in ends.items():
        if len(found) > 1:
            verdict.add(
                "upload", found[1][2], f"file {key[1]} of {key[0]} ended twice", *(line for _, line, _ in found)
            )
    _puts(history, verdict, put, ends)
    _gets(history, verdict, put)
    _read_marks(history, verdict)
    _tokens(history, verdict)


def _puts(
    history: History,
    verdict: Verdict,
    put: dict[tuple[str, str], Op],
    ends: dict[tuple[str, str], list[tuple[str, int, float]]],
) -> None:
    for key, op in put.items():
        verdict.look("uploads")
        found = ends.get(key, [])
        if op.invoke["payload"].get("is_corrupt") and any(kind == "file.ready" for kind, _, _ in found):
            sentence = f"file {key[1]} of {key[0]} is ready, but its bytes are not those announced"
            verdict.add("upload", found[0][2], sentence, *op.lines, found[0][1])
        is_complete = op.is_ok and not found and history.calm_ms != float("inf")
        if is_complete and not history.has_loss(op.place, op.began_ms, history.end_ms):
            verdict.add("upload", op.ended_ms, f"file {key[1]} of {key[0]} was completed and never ended", *op.lines)


def _gets(history: History, verdict: Verdict, put: dict[tuple[str, str], Op]) -> None:
    for op in history.ops:
        if op.invoke["type"] != "file.get" or not op.is_ok:
            continue
        verdict.look("downloads")
        sent = put.get((op.invoke["tenant"], op.invoke["payload"]["file_id"]))
        if sent is None:
            verdict.add(
                "upload", op.ended_ms, f"file {op.invoke['payload']['file_id']} was not uploaded by anyone", *op.lines
            )
        elif op.reply["sha256"] != sent.invoke["payload"]["sha256"]:
            sentence = (
                f"file {op.invoke['payload']['file_id']} of {op.invoke['tenant']} has other bytes than were uploaded"
            )
            verdict.add("upload", op.ended_ms, sentence, *sent.lines, *op.lines)


def _order(event_id: str) -> tuple[int, int]:
    ms, _, number = event_id.partition("-")
    return int(ms), int(number or 0)


def _read_marks(history: History, verdict: Verdict) -> None:
    """A state contains at least the read position acknowledged before it was requested."""
    marked: dict[tuple[Place, str], list[Op]] = defaultdict(list)
    for op in history.ops:
        if op.invoke["type"] == "channel.read" and op.is_ok and not op.reply.get("dropped"):
            marked[(op.place, op.invoke["user"])].append(op)
    for op in history.ops:
        if op.invoke["type"] != "read.state" or not op.is_ok or op.invoke["payload"].get("at"):
            continue
        markers = op.reply["state"].get("read_markers")
        if markers is None:
            continue
        for (place, user), ops in marked.items():
            before = [one for one in ops if one.ended_ms < op.began_ms]
            if place != op.place or not before or history.has_loss(place, before[0].began_ms, op.ended_ms):
                continue
            verdict.look("read marks")
            due = max(before, key=lambda one: _order(one.invoke["payload"]["up_to"]))
            up_to = due.invoke["payload"]["up_to"]
            if _order(markers.get(user, "0-0")) < _order(up_to):
                sentence = f"{user} has read {op.invoke['channel']} up to {up_to}; the state says {markers.get(user)}"
                verdict.add("read mark", op.ended_ms, sentence, *due.lines, *op.lines)


def _tokens(history: History, verdict: Verdict) -> None:
    """A revoked or expired token is refused, and connections opened with it are closed."""
    ends: dict[str, tuple[float, str, int]] = {}
    leeway_ms, bound_ms = history.bound("expiry_ms", 35_000), history.bound("revocation_ms", 5_000)
    for line, record in history.of("token"):
        ends[record["id"]] = (record["ends"] + leeway_ms, "expired", line)
    for op in history.ops:
        if op.invoke["type"] == "token.revoke" and op.is_ok and op.end is not None:
            heal_ms = _healed(history, op.ended_ms)
            end = (heal_ms + bound_ms, "was revoked", op.end)
            name = op.invoke["payload"]["token"]
            if name not in ends or end[0] < ends[name][0]:
                ends[name] = end
    for op in history.ops:
        held = ends.get(op.invoke.get("token", ""))
        if held and op.is_ok and op.began_ms > held[0] and op.invoke["type"] != "token.revoke":
            sentence = f"{op.invoke['type']} of {op.invoke['user']} was accepted although its token {held[1]}"
            verdict.add("token", op.ended_ms, sentence, held[2], *op.lines)
    for name, lines in history.readers.items():
        first = lines[0][1]
        held = ends.get(first.get("token", ""))
        late = [(line, record) for line, record in lines if held and record["k"] == "got" and record["t"] > held[0]]
        if held:
            verdict.look("tokens that ended")
        if late and held:
            sentence = f"reader {name} of {first['user']} got events although its token {held[1]}"
            verdict.add("token", late[0][1]["t"], sentence, held[2], lines[0][0], late[0][0])


def _healed(history: History, at_ms: float) -> float:
    """The end of the faults active at that time: a node that is cut off learns of a revocation only afterwards."""
    begun = {record["f"]: record["t"] for _, record in history.of("fault") if record["phase"] == "begin"}
    ends = [
        record["t"]
        for _, record in history.of("fault")
        if record["phase"] == "end" and begun.get(record["f"], 0.0) <= at_ms + history.bound("revocation_ms", 5_000)
    ]
    return float(max([at_ms, *(end for end in ends if end >= at_ms)]))
