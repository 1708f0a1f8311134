"""Rules for agents and handlers: each answer begins and ends once, deltas add up to its text, effects happen once."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from typing import ClassVar, Final

from ops.torture.history import History, Place, Record
from ops.torture.verdict import Verdict

_RECORDED_MS: Final = 10_000
"""Maximum time between the record of a call and its effect."""
PIECES: Final = 24
"""Number of pieces in an answer of the torture agent."""


def judge_runs(history: History, verdict: Verdict) -> None:
    """Check all runs in the logs, all answers that readers received, and all effects."""
    for place, log in history.logs.items():
        events = [(line, history.event(name)) for _, _, name, line in log.entries]
        _ends(history, verdict, place, events)
        _told_changes(history, verdict, place, events)
    _asked(history, verdict)
    _deltas(history, verdict)
    _effects(history, verdict)


class _Runs:
    """The runs of one channel, checked event by event."""

    def __init__(self, history: History, verdict: Verdict, place: Place) -> None:
        self._history, self._verdict, self._place = history, verdict, place
        self._queued: dict[str, int] = {}
        self._done: dict[str, int] = {}
        self._open: dict[str, dict[str, int]] = defaultdict(dict)
        self._ended: set[str] = set()
        self._questions: dict[str, str] = {}

    def _add(self, kind: str, line: int, run: str, what: str, *lines: int) -> None:
        t = self._history.records[line]["t"]
        self._verdict.add(kind, t, f"run {run} in {self._place[1]} of {self._place[0]}{what}", line, *lines)

    def take(self, line: int, event: Record) -> None:
        """Check the next event of the channel."""
        if event["type"] == "chat.message":
            self._questions[event["id"]] = event["payload"]["text"]
        run = event["payload"].get("run_id")
        if run is None or event["actor"]["kind"] == "user" or event["type"] == "message.status":
            return
        if run in self._done and event["type"] != "agent.complete":
            self._add("run after its end", line, run, f": {event['type']} after its end", self._done[run])
        change = self._CHANGES.get(event["type"])
        if change is not None:
            change(self, line, run, event)

    def _status(self, line: int, run: str, event: Record) -> None:
        if event["payload"]["state"] == "queued":
            self._queued.setdefault(run, line)
        elif run not in self._queued and not self._history.losses:
            self._add("run without a beginning", line, run, f": {event['payload']['state']} before it was queued")

    def _begin(self, line: int, run: str, event: Record) -> None:
        message = event["payload"]["message_id"]
        if message in self._ended or message in self._open[run]:
            self._add("message begun twice", line, run, f": {message} begins again")
        self._open[run][message] = line

    def _end(self, line: int, run: str, event: Record) -> None:
        message = event["payload"]["message_id"]
        if message in self._ended:
            self._add("message ended twice", line, run, f": {message} ends again")
        self._open[run].pop(message, None)
        self._ended.add(message)
        _answer(self._history, self._verdict, event, self._questions, line)

    def _complete(self, line: int, run: str, event: Record) -> None:
        if run in self._done:
            self._add("run ended twice", line, run, " ended twice", self._done[run])
        self._done.setdefault(run, line)
        self._verdict.look("runs")
        self._verdict.tell(f"runs ended: {event['payload']['outcome']}")
        for message, begun in self._open.pop(run, {}).items():
            self._add("message without an end", line, run, f": {message} is open at the run's end", begun)

    def close(self) -> None:
        """Check at the end of the log that all runs and messages that began have ended."""
        for run in sorted(self._queued.keys() - self._done.keys()):
            self._add("run without an end", self._queued[run], run, " never ended")

    _CHANGES: ClassVar = {
        "agent.status": _status,
        "assistant.message.start": _begin,
        "assistant.message.end": _end,
        "agent.complete": _complete,
    }


def _ends(history: History, verdict: Verdict, place: Place, events: list[tuple[int, Record]]) -> None:
    """A run begins as queued and has one end, after which nothing follows; its messages each begin once and end once, within it."""
    runs = _Runs(history, verdict, place)
    for line, event in events:
        runs.take(line, event)
    if history.calm_ms != float("inf") and not any(loss.touches(place) for loss in history.losses):
        runs.close()


def _answer(history: History, verdict: Verdict, event: Record, questions: dict[str, str], line: int) -> None:
    """The answer of the torture agent is a known text; a successful answer has exactly that text."""
    payload = event["payload"]
    question = questions.get(event.get("meta", {}).get("causation", "")) or questions.get(
        event.get("meta", {}).get("correlation", "")
    )
    if question is None or payload["finish_reason"] != "stop" or event["actor"].get("id") != "torture":
        return
    verdict.look("answers")
    if payload["text"] != answer_of(question):
        sentence = f"the answer {payload['message_id']} is not the text the agent gave"
        verdict.add("answer altered", history.records[line]["t"], sentence, line)


def _told_changes(history: History, verdict: Verdict, place: Place, events: list[tuple[int, Record]]) -> None:
    """Every change of settings is announced exactly once, with revisions that increase by one."""
    told: Counter[str] = Counter()
    revisions = []
    changes: dict[str, int] = {}
    for line, event in events:
        if event["type"] in {"chat.configure", "chat.branch", "channel.configure"}:
            changes[event["id"]] = line
        elif event["type"] in {"conversation.updated", "channel.updated"}:
            cause = event.get("meta", {}).get("causation", "")
            told[cause] += 1
            revisions.append(event["payload"]["revision"])
            if told[cause] > 1:
                t = history.records[line]["t"]
                verdict.add("effect repeated", t, f"the change {cause} of {place[1]} of {place[0]} is told again", line)
    verdict.look("effects of handlers", len(changes))
    if any(loss.touches(place) for loss in history.losses) or history.calm_ms == float("inf"):
        return
    for event_id, line in changes.items():
        if not told[event_id]:
            t = history.records[line]["t"]
            verdict.add("effect missing", t, f"the change {event_id} of {place[1]} of {place[0]} was never told", line)


def _asked(history: History, verdict: Verdict) -> None:
    """A command whose reply names a run has that run in the log."""
    ended: set[tuple[Place, str]] = set()
    for place, log in history.logs.items():
        for _, _, name, _ in log.entries:
            event = history.event(name)
            if event["type"] == "agent.complete":
                ended.add((place, event["payload"]["run_id"]))
    for op in history.ops:
        run = op.reply.get("run_id") if op.is_ok else None
        is_asked = op.invoke["type"] in {"agent.invoke", "chat.message"}
        if not run or not is_asked or history.calm_ms == float("inf"):
            continue
        verdict.look("runs asked for")
        if (op.place, run) not in ended and not history.has_loss(op.place, op.began_ms - 1, history.end_ms):
            sentence = f"{op.invoke['user']} was told of run {run} in {op.invoke['channel']}, which never ended"
            verdict.add("run without an end", op.ended_ms, sentence, *op.lines)


def _deltas(history: History, verdict: Verdict) -> None:
    """The deltas that a reader joins by their offsets are a prefix of the text; if none was lost, the complete text."""
    for lines in history.readers.values():
        if lines[0][1]["k"] == "subscribe":
            _Watch(history, verdict).follow(lines)


class _Watch:
    """The answers that one reader receives."""

    def __init__(self, history: History, verdict: Verdict) -> None:
        self._history, self._verdict = history, verdict
        self._held: dict[str, str] = {}
        self._attempt: dict[str, int] = {}
        self._whole: dict[str, bool] = {}
        self._ended: set[str] = set()
        self._lines: dict[str, int] = {}

    def follow(self, lines: list[tuple[int, Record]]) -> None:
        """Process everything that was received, in order of arrival."""
        for line, record in lines:
            if record["k"] == "signal":
                self._signal(line, json.loads(record["raw"]))
            elif record["k"] == "got":
                for _, _, name in record["e"]:
                    event = self._history.event(name)
                    if event["type"].startswith("assistant.message."):
                        self._event(line, event)
            elif record["k"] == "subscribed" and self._held:
                self._held.clear()
                self._whole.clear()

    def _signal(self, line: int, signal: Record) -> None:
        payload = signal["payload"]
        if signal["type"] != "assistant.message.delta" or payload.get("track", "text") != "text":
            return
        message, delta, offset = payload["message_id"], payload["delta"], payload["offset"]
        t = self._history.records[line]["t"]
        self._verdict.look("deltas")
        if payload["end"] != offset + len(delta):
            sentence = (
                f"a delta of {message} says offset {offset} and end {payload['end']} with {len(delta)} code points"
            )
            self._verdict.add("deltas", t, sentence, line)
        if message in self._ended or payload["attempt"] < self._attempt.get(message, 0):
            return
        if payload["attempt"] > self._attempt.get(message, 0):
            self._attempt[message] = payload["attempt"]
            self._whole[message] = offset == 0 or message in self._held
        held = self._held.get(message, "")
        if message not in self._held:
            self._whole.setdefault(message, offset == 0)
            if offset != 0:
                self._whole[message] = False
        if offset == len(held):
            self._held[message] = held + delta
        elif offset < len(held) and held[offset : offset + len(delta)] != delta[: len(held) - offset]:
            self._verdict.add("deltas", t, f"a delta of {message} at {offset} contains another text than before", line)
        elif offset > len(held):
            self._whole[message] = False
        self._lines[message] = line

    def _event(self, line: int, event: Record) -> None:
        payload, message = event["payload"], event["payload"]["message_id"]
        if event["type"] == "assistant.message.reset" and payload["attempt"] > self._attempt.get(message, 0):
            self._attempt[message] = payload["attempt"]
            self._held[message] = self._held.get(message, "")[: payload.get("keep", 0)]
        elif event["type"] == "assistant.message.end":
            self._ended.add(message)
            held = self._held.get(message)
            if held is None or "text" not in payload:
                return
            self._verdict.look("streamed answers")
            is_beginning = payload["text"].startswith(held)
            t = self._history.records[line]["t"]
            if not is_beginning and self._whole.get(message):
                sentence = f"the deltas of {message} are not a beginning of its text"
                self._verdict.add("deltas", t, sentence, self._lines[message], line)
            elif is_beginning and held != payload["text"]:
                self._verdict.tell("answers whose deltas came in part")


def _effects(history: History, verdict: Verdict) -> None:
    """A tool that must not run twice did not run twice, and it ran if the run succeeded."""
    counts: Counter[tuple[str, str]] = Counter()
    lines: dict[tuple[str, str], list[int]] = defaultdict(list)
    for line, record in history.of("effect"):
        counts[(record["run"], record["key"])] += 1
        lines[(record["run"], record["key"])].append(line)
    verdict.look("effects of agents", len(counts))
    for (run, key), count in counts.items():
        found = lines[(run, key)]
        between_ms = history.records[found[0]]["t"] - _RECORDED_MS, history.records[found[-1]]["t"]
        if count > 1 and any(
            loss.begin_ms <= between_ms[1] and loss.end_ms >= between_ms[0] for loss in history.losses
        ):
            verdict.tell("effects repeated because their record was destroyed")
        elif count > 1:
            t = history.records[found[1]]["t"]
            verdict.add("effect repeated", t, f"{key} of run {run} happened {count} times", *found)


def pieces_of(question: str) -> list[str]:
    """The torture agent's answer to a question, in the pieces in which it is streamed, with characters from all Unicode planes."""
    seed = hashlib.sha256(question.encode()).hexdigest()
    words = [seed[at : at + 1 + int(seed[at], 16)] for at in range(PIECES)]
    mark = question[: question.find("|") + 1]
    return [mark, *(f"{word}𝄞 é" for word in words)]


def answer_of(question: str) -> str:
    """The complete answer."""
    return "".join(pieces_of(question))
