"""Rules for replies other than receipts and states.

They cover pages of history, counts of unread notifications, refusals of stored commands, unexpectedly closed sockets, and the
default agent of a conversation.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from ops.torture import fold
from ops.torture.history import History, Op, Place, Record
from ops.torture.verdict import Verdict

SETTLED_MS: Final = 1_000
"""Time after an acknowledged change of settings in which every node must apply it, if none has lost Redis meanwhile."""
SETTLED_AT_LAST_MS: Final = 5_000
"""Time after which every node must apply it in any case."""
_OF_THE_CALLER: Final = frozenset({4001, 4002, 4019})
"""Error codes that concern the token and not the command."""
_HINDERS_NO_WORKER: Final = frozenset(
    {"node clock moved", "client killed", "client stopped", "token revoked", "token expired"}
)
_ANNOUNCED_MS: Final = 3_000
"""Time after the start of a run in which its workers have announced their agents."""
_REANNOUNCED_MS: Final = 20_000
"""Time after a fault of workers or Redis in which they have announced them again."""
_Key = tuple[str, str, str]


def judge_answers(history: History, verdict: Verdict) -> None:
    """Check all replies other than receipts and states."""
    for op in history.ops:
        if op.invoke["type"] == "read.page" and op.is_ok:
            _page(history, verdict, op)
    _unread(history, verdict)
    _refused_though_stored(history, verdict)
    _closed_for_nothing(history, verdict)
    _agents(history, verdict)
    _unavailable(history, verdict)


def _touched(history: History, place: Place) -> bool:
    return any(loss.touches(place) for loss in history.losses)


def _order(event_id: str) -> tuple[int, int]:
    ms, _, number = event_id.partition("-")
    return int(ms), int(number or 0)


def _wants(types: list[str], name: str) -> bool:
    return not types or any(name.startswith(t[:-1]) if t.endswith("*") else name == t for t in types)


def _page(history: History, verdict: Verdict, op: Op) -> None:
    """A page contains every event of the requested types between its start and the next page's start."""
    log = history.logs.get(op.place)
    if log is None or _touched(history, op.place):
        return
    asked, told = op.invoke["payload"], op.reply
    given, following = {seq for seq, *_ in told["e"]}, told.get("next")
    low, high = _order(asked.get("after", "0")), (1 << 62, 0)
    if "before" in asked:
        high = _order(asked["before"])
        low = (_order(following)[0], _order(following)[1] - 1) if following else (0, 0)
    elif following:
        high = (_order(following)[0], _order(following)[1] + 1)
    verdict.look("pages looked through")
    seen = history.sightings.get(op.place, {})
    for seq, event_id, name, line in log.entries:
        if not low < _order(event_id) < high or seq in given:
            continue
        is_open = not following and "before" not in asked
        if is_open and seen[seq][name][1] >= op.began_ms:
            continue  # the event may have been appended after the page was read
        if _wants(asked.get("types", []), history.event(name)["type"]):
            sentence = f"a page of {op.invoke['channel']} of {op.invoke['tenant']} leaves out seq {seq}"
            verdict.add("untold hole", op.ended_ms, sentence, *op.lines, line)
            return


def _unread(history: History, verdict: Verdict) -> None:
    """The count in the reply to a `team.notification.read` is the count at its own seq, or at a seq up to the reply."""
    began: dict[_Key, float] = {}
    for op in history.ops:
        began.setdefault(_key(op), op.began_ms)
    for op in history.ops:
        log = history.logs.get(op.place)
        is_counted = op.invoke["type"] == "team.notification.read" and op.is_ok and "unread" in op.reply
        if not is_counted or log is None or _touched(history, op.place):
            continue
        events = [history.event(name) for _, _, name, _ in log.entries]
        seq = int(op.reply["seq"])
        verdict.look("unread counts in receipts")
        right: list[int] = []
        for count in range(seq, len(events) + 1):
            newest = events[count - 1]
            sender = (op.invoke["tenant"], newest["actor"]["id"], newest.get("meta", {}).get("command", ""))
            if count > seq and began.get(sender, 0.0) > op.ended_ms:
                break
            right.append(fold.inbox(events[:count])["unread"])
        if right and op.reply["unread"] not in right:
            who = f"{op.invoke['user']} of {op.invoke['tenant']}"
            sentence = (
                f"the receipt of seq {seq} in the inbox of {who} says {op.reply['unread']} unread, not {right[0]}"
            )
            verdict.add("unread", op.ended_ms, sentence, *op.lines)


def _key(op: Op) -> _Key:
    return op.invoke["tenant"], op.invoke["user"], op.invoke.get("id", "")


def _refused_though_stored(history: History, verdict: Verdict) -> None:
    """A stored command is not refused when it is sent again, whatever has changed since."""
    stored: dict[_Key, tuple[Place, int, float, int]] = {}
    for place, log in history.logs.items():
        for seq, _, name, line in log.entries:
            event = history.event(name)
            command = event.get("meta", {}).get("command")
            if command and event["actor"]["kind"] == "user":
                seen_ms = history.sightings[place][seq][name][1]
                stored[(place[0], event["actor"]["id"], command)] = place, seq, seen_ms, line
    for op in history.ops:
        if op.is_ok and "seq" in op.reply and (held := stored.get(_key(op))) is not None:
            stored[_key(op)] = (*held[:2], min(held[2], op.ended_ms), held[3])
    for op in history.ops:
        held = stored.get(_key(op))
        is_refused = op.outcome is not None and op.outcome["k"] == "fail" and "id" in op.invoke
        if not is_refused or held is None or op.outcome is None or op.outcome["code"] in _OF_THE_CALLER:
            continue
        verdict.look("refusals of what is stored")
        if held[2] < op.began_ms and not history.has_loss(held[0], held[2], op.ended_ms):
            what = f"{op.invoke['type']} {op.invoke['id']} of {op.invoke['user']} of {op.invoke['tenant']}"
            sentence = (
                f"{what} is stored as seq {held[1]}, and was refused with {op.outcome['code']} when it was sent again"
            )
            verdict.add("two answers", op.ended_ms, sentence, *op.lines, held[3])


def _closed_for_nothing(history: History, verdict: Verdict) -> None:
    """A socket is closed for a revoked token only if one of the person's tokens was revoked."""
    revoked: dict[tuple[str, str], float] = {}
    for op in history.ops:
        if op.invoke["type"] == "token.revoke":
            revoked.setdefault((op.invoke["tenant"], op.invoke["user"]), op.began_ms)
    for lines in history.readers.values():
        first = lines[0][1]
        for line, record in lines:
            if first["k"] != "subscribe" or record["k"] != "left" or record["why"] != "closed 4019":
                continue
            verdict.look("sockets closed for a revoked token")
            if revoked.get((first["tenant"], first["user"]), float("inf")) > record["t"]:
                sentence = f"{first['user']} of {first['tenant']} was sent away with 4019 and had no token revoked"
                verdict.add("needless refusal", record["t"], sentence, lines[0][0], line)


def _agents(history: History, verdict: Verdict) -> None:
    """A message without an agent is answered by the one in the conversation's settings, once every node knows the settings."""
    sent: dict[_Key, list[Op]] = defaultdict(list)
    for op in history.ops:
        sent[_key(op)].append(op)
    changes: dict[Place, list[tuple[int, str, list[Op]]]] = defaultdict(list)
    for place, log in history.logs.items():
        for seq, _, name, _ in log.entries:
            event = history.event(name)
            if event["type"] == "chat.configure" and "agent" in event["payload"]["settings"]:
                key = (place[0], event["actor"]["id"], event.get("meta", {}).get("command", ""))
                changes[place].append((seq, str(event["payload"]["settings"]["agent"] or ""), sent[key]))
    for op in history.ops:
        is_plain = op.invoke["type"] == "chat.message" and "agent" not in op.invoke["payload"]
        if not (is_plain and op.is_ok and "disposition" in op.reply) or op.reply["duplicate"] or not changes[op.place]:
            continue
        if not _touched(history, op.place):
            _disposition(history, verdict, op, sent[_key(op)][0].began_ms, changes[op.place])


def _disposition(
    history: History, verdict: Verdict, op: Op, began_ms: float, changes: list[tuple[int, str, list[Op]]]
) -> None:
    agent, lines = "", list(op.lines)
    hindered = [record["t"] for _, record in history.of("fault") if record["name"] not in _HINDERS_NO_WORKER]
    for seq, named, ops in changes:
        acked_ms = min((one.ended_ms for one in ops if one.is_ok), default=float("inf"))
        is_disturbed = any(acked_ms - SETTLED_AT_LAST_MS < t < began_ms for t in hindered)
        is_known = acked_ms + (SETTLED_AT_LAST_MS if is_disturbed else SETTLED_MS) < began_ms
        is_later = seq > op.reply["seq"] and all(one.began_ms > op.ended_ms for one in ops)
        if not (is_known or is_later):
            return  # it is unknown which of the two settings was in force
        if seq < op.reply["seq"]:
            agent, lines = named, [*op.lines, *ops[0].lines]
    verdict.look("messages answered by settings")
    due = "stored" if agent in {"", "none"} else "queued"
    if op.reply["disposition"] != due:
        who = f"message {op.invoke['id']} of {op.invoke['user']} in {op.invoke['channel']} of {op.invoke['tenant']}"
        sentence = f"{who} is {op.reply['disposition']} although the settings name {agent or 'no agent'}"
        verdict.add("settings not followed", op.ended_ms, sentence, *lines)


def _unavailable(history: History, verdict: Verdict) -> None:
    """A served agent is not reported as unavailable while nothing prevents its workers from announcing it."""
    begun_ms = float(history.head.get("t", 0.0)) + _ANNOUNCED_MS
    hindered = [record["t"] for _, record in history.of("fault") if record["name"] not in _HINDERS_NO_WORKER]
    for op in history.ops:
        if op.invoke["type"] != "chat.message" or op.outcome is None or op.began_ms < begun_ms:
            continue
        if op.invoke["payload"].get("agent"):
            verdict.look("agents asked for")
            is_excused = any(op.began_ms - _REANNOUNCED_MS < t < op.ended_ms for t in hindered)
            if op.outcome["k"] == "fail" and op.outcome["code"] == 4007 and not is_excused:  # noqa: PLR2004
                who = f"{op.invoke['user']} of {op.invoke['tenant']}"
                sentence = f"{who} was told by {op.invoke['node']} that nobody serves {op.invoke['payload']['agent']}"
                verdict.add("needless refusal", op.ended_ms, sentence, *op.lines)


def judge_live(history: History, place: Place, state: Record, seq: int) -> list[str]:
    """The differences between a state's live part and the log at its seq: open answers and open uploads."""
    found = [
        f"answer {one['message_id']} has {len(one['text'])} code points and says {one['offset']}"
        for one in state.get("open_messages", [])
        if len(one["text"]) != one["offset"]
    ]
    listed = {one["upload_id"] for one in state.get("uploads", [])}
    answering = {one["message_id"] for one in state.get("open_messages", [])}
    if not (listed or answering) or _touched(history, place):
        return found
    for at, held in history.sightings.get(place, {}).items():
        for name in held if at <= seq else ():
            event = history.event(name)
            payload = event["payload"]
            if event["type"] in {"file.ready", "file.upload.failed"}:
                upload = payload.get("file_id") or payload["upload_id"]
                found += [f"upload {upload} ended at seq {at} and is listed as open"] if upload in listed else []
            elif event["type"] == "assistant.message.end" and payload["message_id"] in answering:
                found.append(f"answer {payload['message_id']} ended at seq {at} and is shown as open")
    return found
