"""Checks what one socket received against the logs and the rules of docs/protocol.md#stream-rules. Pure."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from projections.channel_state import ChannelState
from streams.channel import parse_channel
from streams.envelope import Lane
from streams.events import CATALOGUE
from support.hub_frames import frames_of, problems_of
from support.run_rules import Violation
from support.stream_rules import Logs, record_of, secrets_in

Json = dict[str, Any]
_ONE_EACH = {"channel.subscribe", "channel.unsubscribe"}


@dataclass(slots=True)
class _Followed:
    """One subscription, beginning with `channel.subscribed`."""

    head: Json
    replay: int
    has_gap: bool
    seqs: list[int] = field(default_factory=list)
    is_resumed: bool = False


@dataclass(slots=True)
class _Held:
    """A reader's copy of one message, by track, built by the offset rule; `has_missed` is set by a delta that is too far ahead."""

    attempt: int = 0
    tracks: dict[str, str] = field(default_factory=dict)
    has_missed: bool = False


def socket_violations(
    texts: Iterable[str], sent: Sequence[Json], logs: Logs, tenant: str, *, is_quiet: bool = True
) -> list[Violation]:
    """Violations of rules 1 to 4, 6, 9, 10 and 13 by the messages of one socket.

    Args:
        texts: every text frame that it received, in order.
        sent: every valid message that it sent, without those broken on purpose.
        logs: the complete channels that it followed.
        tenant: the tenant of the socket.
        is_quiet: the socket is open and nothing more will arrive, so every command is answered and every answer has ended.
    """
    raw = [frame for text in texts for frame in frames_of(text)]
    frames = [json.loads(one) for one in raw]
    types = {frame["id"]: frame["type"] for frame in sent if "id" in frame}
    watch = _Watch(logs, tenant)
    found = [Violation(0, problem) for frame in frames for problem in problems_of(frame, types)]
    for text, frame in zip(raw, frames, strict=True):
        found += watch.take(text, frame)
    return [*found, *watch.at_the_end(is_quiet=is_quiet), *_replies(frames, sent, logs, is_quiet=is_quiet)]


class _Watch:
    """Follows one socket message by message."""

    def __init__(self, logs: Logs, tenant: str) -> None:
        self._logs, self._tenant = logs, tenant
        self._followed: dict[str, _Followed] = {}
        self._held: dict[str, _Held] = defaultdict(_Held)
        self._progress: dict[str, float] = {}
        events = [json.loads(line) for lines in logs.values() for line in lines]
        self._ends = {e["payload"]["message_id"]: e["payload"] for e in events if e["type"] == "assistant.message.end"}
        self._ended: set[str] = set()

    def take(self, text: str, frame: Json) -> Iterator[Violation]:
        kind, channel = frame["type"], frame.get("channel", "")
        if kind == "channel.subscribed":
            yield from self._subscribed(channel, frame["payload"])
        elif kind == "channel.resumed":
            yield from self._resumed(channel, frame["payload"])
        elif kind == "channel.unsubscribed":
            self._followed.pop(channel, None)
        elif "actor" in frame:
            yield from secrets_in([text])
            if channel not in self._followed:
                yield Violation(2, f"{kind} of {channel} before channel.subscribed")
            elif "seq" in frame:
                yield from self._event(text, frame, self._followed[channel])
            else:
                yield from self._signal(frame)

    def at_the_end(self, *, is_quiet: bool) -> Iterator[Violation]:
        for channel, followed in self._followed.items():
            if len(followed.seqs) < followed.replay and is_quiet:
                yield Violation(2, f"{channel}: {len(followed.seqs)} of {followed.replay} replayed")
            last = followed.seqs[-1] if followed.seqs else followed.head["seq"]
            if is_quiet and channel in self._logs and last != len(self._logs[channel]):
                yield Violation(1, f"{channel} ends at {last} of {len(self._logs[channel])}")
        for message, held in self._held.items():
            end = self._ends.get(message)
            if is_quiet and message in self._ended and end is not None and not held.has_missed:
                for track, text in held.tracks.items():
                    if text != (end.get(track) or "") and held.attempt == end["attempt"]:
                        yield Violation(9, f"the deltas of {message} give {text!r} and its end {end.get(track)!r}")

    def _subscribed(self, channel: str, payload: Json) -> Iterator[Violation]:
        followed = _Followed(payload["head"], payload["replay"], payload["gap"] is not None)
        self._followed[channel] = followed
        if payload["recovered"] is followed.has_gap:
            yield Violation(2, f"{channel}: recovered {payload['recovered']} with gap {payload['gap']}")
        if followed.has_gap and payload.get("state") is None:
            yield Violation(2, f"{channel}: a gap without the state")
        if (state := payload.get("state")) is not None:
            yield from self._state(channel, state, payload["state_at"])
            for message in state.get("open_messages", []):
                self._snapshot(message)

    def _state(self, channel: str, state: Json, at: int) -> Iterator[Violation]:
        """The stored part of a state equals the fold of the log up to `state_at`."""
        fold = ChannelState.begin(parse_channel(self._tenant, channel))
        for line in self._logs.get(channel, ())[:at]:
            fold.advance(record_of(json.loads(line)))
        expected = json.loads(fold.render())
        if fold.seq != at or any(state.get(name) != value for name, value in expected.items()):
            wrong = [name for name, value in expected.items() if state.get(name) != value]
            yield Violation(13, f"the state of {channel} at {at} differs in {wrong}")

    def _resumed(self, channel: str, payload: Json) -> Iterator[Violation]:
        followed = self._followed.get(channel)
        if followed is None:
            yield Violation(2, f"channel.resumed of {channel} before channel.subscribed")
            return
        seqs = followed.seqs
        told = payload["count"], payload["from_seq"], payload["to_seq"]
        seen = len(seqs), seqs[0] if seqs else None, seqs[-1] if seqs else None
        if told != seen or followed.is_resumed:
            yield Violation(2, f"channel.resumed of {channel} says {told} after {seen}")
        followed.is_resumed = True

    def _event(self, text: str, frame: Json, followed: _Followed) -> Iterator[Violation]:
        seq, channel = frame["seq"], frame["channel"]
        first = followed.head["seq"] - followed.replay + 1
        expected = followed.seqs[-1] + 1 if followed.seqs else first
        if seq != expected:
            yield Violation(1, f"seq {seq} of {channel} where {expected} follows")
        followed.seqs.append(seq)
        if seq > followed.head["seq"] and followed.replay and not followed.is_resumed:
            yield Violation(2, f"live event {seq} of {channel} before channel.resumed")
        log = self._logs.get(channel)
        if log is not None and (seq > len(log) or log[seq - 1] != text):
            yield Violation(1, f"event {seq} of {channel} is not the bytes of the log")
        yield from self._answer_event(frame, is_replayed=seq <= followed.head["seq"])

    def _answer_event(self, frame: Json, *, is_replayed: bool) -> Iterator[Violation]:
        """Check an event of an answer.

        A replayed start does not announce deltas, which are not replayed: a snapshot replaces them.
        """
        payload = frame["payload"]
        if frame["type"] == "assistant.message.start":
            if payload["attempt"] > self._held[payload["message_id"]].attempt:
                self._open(payload["message_id"], payload["attempt"]).has_missed = is_replayed
        elif frame["type"] == "assistant.message.reset":
            held = self._held[payload["message_id"]]
            if payload["attempt"] > held.attempt:
                kept = held.tracks.get("text", "")[: payload["keep"]]
                held.has_missed = is_replayed or len(kept) < payload["keep"]
                held.attempt, held.tracks = payload["attempt"], {"text": kept}
        elif frame["type"] == "assistant.message.end":
            self._ended.add(payload["message_id"])
            yield from self._is_prefix(payload["message_id"])

    def _signal(self, frame: Json) -> Iterator[Violation]:
        payload, row = frame["payload"], CATALOGUE[frame["type"]]
        if row.lane is not Lane.LIVE:
            yield Violation(6, f"{row.name} came without seq")
        if row.name == "assistant.message.delta":
            yield from self._delta(payload)
        elif row.name == "tool.call.progress":
            call = payload["tool_call_id"]
            if payload["progress"] < self._progress.get(call, 0):
                yield Violation(10, f"progress of {call} fell to {payload['progress']}")
            self._progress[call] = payload["progress"]

    def _open(self, message: str, attempt: int) -> _Held:
        held = self._held[message]
        if attempt > held.attempt:
            held.attempt, held.tracks, held.has_missed = attempt, {}, False
        return held

    def _snapshot(self, message: Json) -> None:
        held = self._open(message["message_id"], message["attempt"])
        if held.attempt == message["attempt"]:
            for track, text in (("text", message["text"]), ("reasoning", message.get("reasoning", ""))):
                if len(text) > len(held.tracks.get(track, "")):
                    held.tracks[track], held.has_missed = text, False

    def _delta(self, payload: Json) -> Iterator[Violation]:
        """The offset rule of docs/protocol.md#deltas. Text received twice must be equal."""
        message, track, offset, delta = (
            payload["message_id"],
            payload.get("track", "text"),
            payload["offset"],
            payload["delta"],
        )
        held = self._held[message]
        if offset == 0:
            held = self._open(message, payload["attempt"])
        if payload["attempt"] != held.attempt:
            held.has_missed = held.has_missed or payload["attempt"] > held.attempt
            return
        text = held.tracks.get(track, "")
        if offset > len(text):
            held.has_missed = True
        elif offset == len(text):
            held.tracks[track] = text + delta
            if len(held.tracks[track]) != payload["end"]:
                yield Violation(
                    9, f"{message} holds {len(held.tracks[track])} where the delta ends at {payload['end']}"
                )
        elif text[offset : offset + len(delta)] != delta[: len(text) - offset]:
            yield Violation(9, f"a delta of {message} at {offset} says something else than one before")
        yield from self._is_prefix(message)

    def _is_prefix(self, message: str) -> Iterator[Violation]:
        held, end = self._held[message], self._ends.get(message)
        if end is None or held.attempt != end["attempt"]:
            return
        for track, text in held.tracks.items():
            if not (end.get(track) or "").startswith(text):
                yield Violation(9, f"{message} holds {text!r}, which its end does not begin with")


def _replies(frames: Sequence[Json], sent: Sequence[Json], logs: Logs, *, is_quiet: bool) -> Iterator[Violation]:
    """Rules 3 and 4: every command has one reply, and an event that it reports as stored is in the log."""
    due: Counter[str] = Counter()
    for frame in sent:
        if "id" in frame:
            due[frame["id"]] += _due(frame)
    got: dict[str, list[Json]] = defaultdict(list)
    for frame in frames:
        if "re" in frame:
            got[frame["re"]].append(frame)
    for command, answers in got.items():
        if len(answers) > due[command]:
            yield Violation(3, f"{command} was answered {len(answers)} times")
        yield from _stored(command, answers, sent, logs)
    for command, count in due.items():
        is_refused_whole = count > 1 and [f["type"] for f in got[command]] == ["connection.error"]
        if is_quiet and len(got[command]) < count and not is_refused_whole:
            yield Violation(3, f"{command} was answered {len(got[command])} times instead of {count}")


def _due(frame: Json) -> int:
    named = frame.get("payload", {}).get("channels")
    return len(named) if frame["type"] in _ONE_EACH and isinstance(named, list) else 1


def _stored(command: str, answers: Sequence[Json], sent: Sequence[Json], logs: Logs) -> Iterator[Violation]:
    channels = {frame.get("channel") for frame in sent if frame.get("id") == command}
    places = {(a["payload"]["id"], a["payload"]["seq"]) for a in answers if {"id", "seq"} <= a["payload"].keys()}
    if len(places) > 1:
        yield Violation(4, f"{command} is said to stand at {sorted(places)}")
    for channel in channels & logs.keys():
        for event_id, seq in places:
            if not _stands(logs, channel, event_id, seq):
                yield Violation(4, f"{command} is said to stand at {seq} of {channel} and does not")


def _stands(logs: Mapping[str, Sequence[str]], channel: str, event_id: str, seq: int) -> bool:
    return 0 < seq <= len(logs[channel]) and bool(json.loads(logs[channel][seq - 1])["id"] == event_id)
