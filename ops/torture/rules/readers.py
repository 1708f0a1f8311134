"""Rules for deliveries: no event missing or repeated, equal bytes for every reader, gaps reported exactly when there are any."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from typing import Any

from ops.torture.history import History, Op, Place, Record
from ops.torture.verdict import Verdict


def judge_readers(history: History, verdict: Verdict) -> None:
    """Follow every subscription from its cursor to its end."""
    for name, lines in history.readers.items():
        if lines[0][1]["k"] == "subscribe":
            _Following(name, lines[0], history, verdict).judge(lines[1:])
    _different_bytes(history, verdict)
    _pages(history, verdict)
    _foreign(history, verdict)
    _silent(history, verdict)


@dataclass(slots=True)
class _Following:
    """The progress of one reader. `due` is the next expected seq, None while it is unknown."""

    name: str
    first: tuple[int, Record]
    history: History
    verdict: Verdict
    due: int | None = None
    seen: set[tuple[int, str]] = field(default_factory=set)
    count: int = 0
    is_told: bool = False
    told_line: int = 0
    promised: int | None = None

    @property
    def place(self) -> Place:
        """The channel that it follows."""
        record = self.first[1]
        return str(record["tenant"]), str(record["channel"])

    def judge(self, lines: list[tuple[int, Record]]) -> None:
        """Check everything that it received, in order of arrival."""
        for line, record in lines:
            match record["k"]:
                case "subscribed":
                    self._subscribed(line, record)
                case "got":
                    self._got(line, record)
                case "resumed":
                    self._resumed(line, record)
                case _:
                    pass

    def _add(self, kind: str, line: int, sentence: str, *lines: int) -> None:
        where = f"{self.place[1]} of {self.place[0]}, reader {self.name}"
        self.verdict.add(kind, self.history.records[line]["t"], f"{where}: {sentence}", line, *lines)

    def _subscribed(self, line: int, record: Record) -> None:
        payload, cursor = record["payload"], self.first[1].get("cursor") or {}
        head, gap = payload["head"]["seq"], payload.get("gap")
        if not self.is_told and record["t"] >= self.first[1]["t"]:
            self.verdict.look("subscriptions")
            if cursor.get("after") not in {None, "$"}:
                self.verdict.look("resumes")
                self.verdict.sample("resume", record["t"] - self.first[1]["t"])
        if gap:
            self._gap(line, record, gap, cursor)
            self.due = head + 1
        else:
            self._continued(line, record, cursor)
        if not gap and not self.is_told:
            self.due = self._due_at_first(cursor, payload)
            self._rewound(line, cursor, payload)
        is_behind = not gap and payload.get("recovered") and self.due is not None and head + 1 < self.due
        if is_behind and not self.history.has_loss(self.place, self.first[1]["t"] - 1, record["t"]):
            self._add("lying receipt", line, f"seq {head} is told as the head and more was there before", self.first[0])
        self.is_told, self.told_line, self.count = True, line, 0
        self.promised = payload.get("replay") if payload.get("recovered") and not gap else None

    def _continued(self, line: int, record: Record, cursor: Record) -> None:
        """An announced replay begins at the client's position: no event between its cursor and the replay is missing."""
        payload, due = record["payload"], self.due
        if not self.is_told:
            due = int(cursor["seq"]) + 1 if "seq" in cursor and cursor.get("after") != "$" else None
        if due is None or "replay" not in payload:
            return
        start = int(payload["head"]["seq"]) - int(payload["replay"]) + 1
        since_ms = float(self.first[1]["t"] if self.is_told else cursor.get("since") or self.history.records[0]["t"])
        if start > due and not self.history.has_loss(self.place, since_ms, record["t"]):
            self._add("untold hole", line, f"its replay begins with seq {start} where {due} was due", self.first[0])

    def _rewound(self, line: int, cursor: Record, payload: Record) -> None:
        """A rewind replays as many events as requested, or all that are kept, plus those appended meanwhile."""
        if "rewind" not in cursor:
            return
        self.verdict.look("rewinds")
        due = min(int(cursor["rewind"]), int(payload["head"]["seq"]) - int(payload["floor"]["seq"]))
        if int(payload.get("replay", 0)) < due:
            sentence = f"a rewind of {cursor['rewind']} replays {payload.get('replay')} where {due} are kept"
            self._add("untold hole", line, sentence, self.first[0])

    def _due_at_first(self, cursor: Record, payload: Record) -> int | None:
        """The seq after the cursor; without a cursor, the one after the announced head."""
        after = cursor.get("after")
        if after in {None, "$"}:
            replayed = int(payload.get("replay", 0)) if "rewind" in cursor else 0
            return int(payload["head"]["seq"]) - replayed + 1
        if after == "0":
            return int(payload["floor"]["seq"]) + 1
        # The node restored the subscription by itself, and the client knows no position.
        if after == "?" and "seq" not in cursor:
            return int(payload["head"]["seq"]) - int(payload.get("replay", 0)) + 1
        return int(cursor["seq"]) + 1 if "seq" in cursor else None

    def _gap(self, line: int, record: Record, gap: Record, cursor: Record) -> None:
        self.verdict.tell(f"gaps told ({gap.get('reason')})")
        begun_ms = float(self.first[1]["t"])
        known_ms = (
            begun_ms if self.is_told or not cursor else float(cursor.get("since") or self.history.records[0]["t"])
        )
        if not self.history.has_loss(self.place, known_ms, record["t"]):
            reason = gap.get("reason")
            self._add("needless gap", line, f"a gap is told ({reason}) and nothing was destroyed", self.first[0])
        if gap.get("reason") == "trimmed" and gap.get("to_seq") is not None:
            self._gap_ends(line, record, gap)

    def _gap_ends(self, line: int, record: Record, gap: Record) -> None:
        """An event reported as missing is not in the log: neither the head, nor one known then that is still there at the end."""
        self.verdict.look("gaps with their ends")
        head, floor = (int(record["payload"][name]["seq"]) for name in ("head", "floor"))
        entries = log.entries if (log := self.history.logs.get(self.place)) else []
        first_seen = {seq: self.history.sightings[self.place][seq][name][1] for seq, _, name, _ in entries}
        kept = {seq for seq, seen_ms in first_seen.items() if seen_ms < record["t"]} | (
            {head} if head > floor else set()
        )
        if wrong := sorted(seq for seq in kept if (gap.get("from_seq") or 1) <= seq <= gap["to_seq"]):
            sentence = f"a gap is told from {gap.get('from_seq')} to {gap['to_seq']} and seq {wrong[0]} is kept"
            self._add("needless gap", line, sentence, self.first[0])

    def _got(self, line: int, record: Record) -> None:
        for seq, event_id, _ in record["e"]:
            self.verdict.look("deliveries")
            if not self.is_told:
                self._add("early event", line, f"seq {seq} came before channel.subscribed", self.first[0])
            if self.due is None:
                self.due = seq
            if seq == self.due:
                self.due += 1
            elif seq > self.due:
                self._add("untold hole", line, f"seq {seq} came where {self.due} was due", self.told_line)
                self.due = seq + 1
            elif (seq, event_id) in self.seen:
                self._add("delivered twice", line, f"seq {seq} came again", *self._lines_of(seq))
            else:
                self._add("reordered", line, f"seq {seq} came after {self.due - 1}", self.told_line)
            self.seen.add((seq, event_id))
            self.count += 1
        array_events = self.history.bound("array_events", 100)
        if record["n"] > self.history.bound("array_bytes", float("inf")) and len(record["e"]) > 1:
            self._add("oversize", line, f"an array of {record['n']} bytes with {len(record['e'])} events")
        if len(record["e"]) > array_events:
            self._add("oversize", line, f"an array of {len(record['e'])} events")

    def _lines_of(self, seq: int) -> list[int]:
        lines = self.history.readers[self.name]
        return [line for line, record in lines if record["k"] == "got" and any(e[0] == seq for e in record["e"])][:2]

    def _resumed(self, line: int, record: Record) -> None:
        payload = record["payload"]
        self.verdict.look("receipts of continuity")
        if payload.get("count") != self.count:
            self._add(
                "lying receipt", line, f"it says {payload.get('count')} events, {self.count} came", self.told_line
            )
        elif self.promised is not None and self.promised != self.count and not payload.get("gap"):
            self._add(
                "lying receipt", line, f"{self.promised} events were announced, {self.count} came", self.told_line
            )
        if self.count and self.due is not None and payload.get("to_seq") != self.due - 1:
            self._add(
                "lying receipt", line, f"the receipt ends at {payload.get('to_seq')}, the events at {self.due - 1}"
            )


def _different_bytes(history: History, verdict: Verdict) -> None:
    """A seq of a channel has the same bytes for all readers, unless a fault destroyed the earlier event."""
    for place, seqs in history.sightings.items():
        for seq, held in seqs.items():
            verdict.look("seqs compared")
            if len(held) == 1:
                continue
            found = sorted(held.values(), key=lambda sighting: sighting[1])
            for one, two in itertools.pairwise(found):
                (one_id, one_first, _, one_line), (two_id, two_first, _, two_line) = one, two
                is_new_life = one_id != two_id and history.has_loss(place, one_first, two_first)
                if not is_new_life:
                    sentence = f"seq {seq} of {place[1]} of {place[0]} has different bytes for two readers"
                    verdict.add("different bytes", two_first, sentence, one_line, two_line)
                else:
                    verdict.tell("seqs given anew after a loss")


def _pages(history: History, verdict: Verdict) -> None:
    """A page of history has no hole."""
    for op in history.ops:
        if op.invoke["type"] != "read.page" or not op.is_ok:
            continue
        verdict.look("pages")
        seqs = [seq for seq, *_ in op.reply["e"]]
        if seqs and "types" not in op.invoke["payload"] and seqs != list(range(seqs[0], seqs[0] + len(seqs))):
            verdict.add("untold hole", op.ended_ms, f"a page of {op.invoke['channel']} counts {seqs[:8]}…", *op.lines)
        after = op.invoke["payload"].get("after_seq")
        is_hole = seqs and after is not None and not op.reply.get("gap") and seqs[0] != after + 1
        if is_hole and not history.has_loss(op.place, history.records[0]["t"], op.ended_ms):
            sentence = f"a page of {op.invoke['channel']} after seq {after} begins with {seqs[0]} and tells no gap"
            verdict.add("untold hole", op.ended_ms, sentence, *op.lines)
        if op.reply.get("n", 0) > history.bound("page_bytes", float("inf")):
            verdict.add("oversize", op.ended_ms, f"a page of {op.reply['n']} bytes", *op.lines)


def _foreign(history: History, verdict: Verdict) -> None:
    """No tenant receives data of another one. Everything a tenant writes contains its marker."""
    marks = history.head.get("tenants", {})
    tenants = {record["r"]: record["tenant"] for _, record in history.of("subscribe")}
    texts: dict[tuple[str, str], int] = {}
    for line, record in history.of("got"):
        for _, _, name in record["e"]:
            texts.setdefault((tenants[record["r"]], history.raw[name]), line)
    for line, record in history.of("signal", "subscribed"):
        text = record["raw"] if record["k"] == "signal" else json.dumps(record["payload"], ensure_ascii=False)
        texts.setdefault((tenants[record["r"]], text), line)
    for op in history.ops:
        if op.is_ok and op.end is not None:
            texts.setdefault((op.invoke["tenant"], _text_of(history, op)), op.end)
    for (tenant, text), line in texts.items():
        verdict.look("texts looked through for other tenants")
        for other, mark in marks.items():
            if other != tenant and mark in text:
                sentence = f"{tenant} got something of {other}"
                verdict.add("foreign bytes", history.records[line]["t"], sentence, line)


def _text_of(history: History, op: Op) -> str:
    payload: dict[str, Any] = op.reply
    if op.invoke["type"] == "read.page":
        return "\n".join(history.raw[name] for _, _, name in payload["e"])
    return json.dumps(payload, ensure_ascii=False)


def _silent(history: History, verdict: Verdict) -> None:
    """A reader still subscribed at the end has received all events."""
    settle_ms = history.bound("settle_ms", 2_000)
    for name, lines in history.readers.items():
        begin, first = lines[0]
        is_late = first["t"] > history.end_ms - settle_ms
        if first["k"] != "subscribe" or is_late or any(record["k"] == "left" for _, record in lines):
            continue
        log = history.logs.get((first["tenant"], first["channel"]))
        if log is None:
            continue
        verdict.look("readers followed to the end")
        head = log.entries[-1][0] if log.entries else 0
        last, last_line = _last_seen(lines)
        if last is None or last < head:
            where = f"{first['channel']} of {first['tenant']}, reader {name}"
            what = "its subscription was never confirmed" if last is None else f"it is at seq {last}"
            sentence = f"{where}: {what}, the channel ends at {head}"
            verdict.add("silent reader", history.records[last_line]["t"], sentence, begin, last_line)


def _last_seen(lines: list[tuple[int, Record]]) -> tuple[int | None, int]:
    """The last seq that a reader knows, and the line from which it knows it."""
    last: int | None = None
    last_line, cursor = lines[0][0], lines[0][1].get("cursor") or {}
    for line, record in lines[1:]:
        if record["k"] == "subscribed":
            payload = record["payload"]
            if payload.get("gap") or (cursor.get("after") in {None, "$"} and last is None):
                last, last_line = payload["head"]["seq"], line
            elif last is None:
                last, last_line = int(cursor.get("seq", payload["head"]["seq"] - payload.get("replay", 0))), line
        elif record["k"] == "got" and record["e"]:
            last, last_line = record["e"][-1][0], line
    return last, last_line
