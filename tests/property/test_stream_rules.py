"""The checker of docs/protocol.md#stream-rules finds each way to break a rule, and nothing in a story that keeps them.

A checker that cannot fail proves nothing: each violation it knows is made here on purpose.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.channel_state import ChannelState
from streams.channel import parse_channel
from streams.records.uploads import file_id_of
from support.socket_rules import socket_violations
from support.stream_rules import log_violations, record_of

Json = dict[str, Any]
TENANT, HOME, DOCUMENT = "acme", "conversation:1", "document:1"
START_MS = 1_795_367_479_000
USER, AGENT = {"kind": "user", "id": "alice"}, {"kind": "agent", "id": "demo"}
TEXT = "Let me look. It is done."
AT = {"message_id": "r1.0", "run_id": "r1", "attempt": 1}


class Story:
    """Channels written event by event."""

    def __init__(self) -> None:
        self.logs: dict[str, list[Json]] = {HOME: [], DOCUMENT: []}
        self._count = 0

    def add(self, type_: str, payload: Json, cause: Json | None = None, channel: str = HOME) -> Json:
        self._count += 1
        event: Json = {
            "id": f"{START_MS + self._count}-0", "seq": len(self.logs[channel]) + 1, "channel": channel, "type": type_,
            "v": 1, "actor": AGENT if cause else USER,
        }  # fmt: skip # a table
        if cause:
            correlation = cause.get("meta", {}).get("correlation", cause["id"])
            event["meta"] = {"correlation": correlation, "causation": cause["id"]}
        else:
            event["meta"] = {"command": f"m{self._count}"}
        event["payload"] = payload
        self.logs[channel].append(event)
        return event

    def lines(self) -> dict[str, list[str]]:
        return {name: [text_of(event) for event in events] for name, events in self.logs.items()}


def text_of(event: Json) -> str:
    return json.dumps(event, ensure_ascii=False, separators=(",", ":"))


def status(state: str, segment: int = 1, **more: Any) -> Json:
    return {"run_id": "r1", "agent": "demo", "state": state, "attempt": 1, "segment": segment, **more}


def told_story() -> Story:
    """A configured conversation with one run that asks before it acts; a file; a document."""
    story = Story()
    configured = story.add("chat.configure", {"settings": {"title": "One"}})
    story.add("conversation.updated", {"revision": 1, "changes": {"title": "One"}, "by": "alice"}, configured)
    asked = story.add("chat.message", {"text": "do it", "agent": "demo"})
    story.add("agent.status", status("queued"), asked)
    story.add("agent.status", status("running", previous="queued"), asked)
    story.add("assistant.message.start", {**AT, "agent": "demo", "parent_id": asked["id"]}, asked)
    story.add("assistant.message.end", {**AT, "finish_reason": "tool_calls", "text": TEXT}, asked)
    call = {"tool_call_id": "t1", "run_id": "r1"}
    story.add("tool.call.start", {**call, "message_id": "r1.0", "name": "act", "executor": "server"}, asked)
    request = {"request_id": "r1.q0", "batch_id": "b", "run_id": "r1", "kind": "approval", "prompt": "May I?"}
    story.add("tool.call.request", {**request, "tool_call_id": "t1"}, asked)
    story.add("agent.status", status("waiting", pending_requests=["r1.q0"]), asked)
    answer = story.add("tool.call.response", {"request_id": "r1.q0", "decision": "approve"})
    resolved = {"request_id": "r1.q0", "run_id": "r1", "resolution": "approved", "edited": False}
    answer["meta"] = {"command": "answer"}
    story.add("tool.call.resolved", resolved, asked)
    story.add("agent.status", status("queued", 2), asked)
    story.add("agent.status", status("running", 2), asked)
    story.add("tool.call.complete", {**call, "outcome": "ok", "duration_ms": 1}, asked)
    for index in range(2):
        story.add("agent.output", {"run_id": "r1", "index": index, "kind": "json", "value": index}, asked)
    complete = {"run_id": "r1", "agent": "demo", "outcome": "success", "message_ids": ["r1.0"], "duration_ms": 1}
    story.add("agent.complete", {**complete, "attempts": 1}, asked)
    upload = story.add("file.upload.request", {"filename": "a", "size": 1, "mime": "text/plain"})
    file_id = file_id_of(parse_channel(TENANT, HOME), upload["id"])
    story.add("file.upload.failed", {"upload_id": file_id, "reason": "expired", "message": "late"}, upload)
    for version in range(2):
        patch = [{"op": "add", "path": "/a", "value": version}]
        story.add("document.update", {"base_version": version, "patch": patch}, channel=DOCUMENT)
    return story


def find(story: Story, type_: str, nth: int = 0, channel: str = HOME) -> Json:
    return [event for event in story.logs[channel] if event["type"] == type_][nth]


def edit(type_: str, nth: int = 0, channel: str = HOME, **fields: Any) -> Callable[[Story], None]:
    """Some fields of a payload are others."""
    return lambda story: find(story, type_, nth, channel)["payload"].update(fields)


def lose(type_: str, nth: int = 0, channel: str = HOME) -> Callable[[Story], None]:
    """An event was never written."""

    def change(story: Story) -> None:
        story.logs[channel].remove(find(story, type_, nth, channel))
        renumber(story.logs[channel])

    return change


def move(type_: str, to: str, nth: int = 0) -> Callable[[Story], None]:
    """An event stands right before the first of another type (or at the end)."""

    def change(story: Story) -> None:
        events = story.logs[HOME]
        event = find(story, type_, nth)
        events.remove(event)
        places = [place for place, other in enumerate(events) if other["type"] == to]
        events.insert(places[0] if places else len(events), event)
        renumber(events)

    return change


def double(type_: str, nth: int = 0, **fields: Any) -> Callable[[Story], None]:
    """An event stands there twice, one behind the other."""

    def change(story: Story) -> None:
        events, event = story.logs[HOME], find(story, type_, nth)
        again = copy.deepcopy(event)
        again["payload"] |= fields
        if "command" in again["meta"]:
            again["meta"]["command"] += "again"
        events.insert(events.index(event) + 1, again)
        renumber(events)

    return change


def renumber(events: list[Json]) -> None:
    """Dense seqs and rising ids; causes keep naming the event they named."""
    renamed = {}
    for seq, event in enumerate(events, 1):
        new = f"{START_MS + seq}-7"
        renamed.setdefault(event["id"], new)
        event["seq"], event["id"] = seq, new
    for event in events:
        for name in {"causation", "correlation"} & event["meta"].keys():
            event["meta"][name] = renamed.get(event["meta"][name], event["meta"][name])


def head(type_: str, nth: int = 0, **fields: Any) -> Callable[[Story], None]:
    """Fields of the event itself are others."""
    return lambda story: find(story, type_, nth).update(fields)


def meta(type_: str, **fields: Any) -> Callable[[Story], None]:
    """Fields of its meta are others; None takes one away."""

    def change(story: Story) -> None:
        known = find(story, type_)["meta"] | fields
        find(story, type_)["meta"] = {name: value for name, value in known.items() if value is not None}

    return change


JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJlLW9mLWl0"
LOG_FAULTS: dict[str, tuple[int, Callable[[Story], None]]] = {
    "a hole in seq": (1, head("agent.output", seq=99)),
    "an id that falls": (1, head("agent.complete", id=f"{START_MS}-0")),
    "an event of another channel": (1, head("agent.output", channel="conversation:2")),
    "a command stored twice": (4, meta("file.upload.request", command="answer")),
    "a derived event without a cause": (5, meta("agent.complete", causation=None)),
    "a cause that was never stored": (5, meta("agent.complete", causation="1-1")),
    "a cause that comes later": (5, meta("conversation.updated", causation=f"{START_MS + 3}-0")),
    "another correlation": (5, meta("agent.complete", correlation="1-1")),
    "a live event in the log": (6, head("agent.output", type="tool.call.progress")),
    "a connection's event in the log": (6, head("agent.output", type="connection.refresh")),
    "an unknown event in the log": (6, head("agent.output", type="agent.nonsense")),
    "a payload nobody may write": (6, edit("agent.status", state="dreaming")),
    "a token in the log": (6, edit("chat.message", text=f"use {JWT}")),
    "a signed URL in the log": (6, edit("chat.message", text="https://s3/x?a=1&X-Amz-Signature=00ff")),
    "not queued first": (7, lose("agent.status")),
    "a transition that there is not": (7, edit("agent.status", 1, state="waiting")),
    "a final state by agent.status": (7, double("agent.status", 4, state="completed")),
    "a previous state it was not in": (7, edit("agent.status", 1, previous="waiting")),
    "an end out of waiting": (7, lose("agent.status", 4)),
    "two ends": (7, double("agent.complete")),
    "no end": (7, lose("agent.complete")),
    "something after the end": (7, move("agent.output", "file.upload.request", 1)),
    "a segment that falls": (7, edit("agent.status", 4, segment=1)),
    "two starts": (8, double("assistant.message.start")),
    "no start": (8, lose("assistant.message.start")),
    "two ends of a message": (8, double("assistant.message.end")),
    "no end of a message": (8, lose("assistant.message.end")),
    "a start after the end": (8, move("assistant.message.start", "tool.call.start")),
    "a message the end does not name": (8, edit("agent.complete", message_ids=[])),
    "a message's end after the run's": (8, move("assistant.message.end", "file.upload.request")),
    "an attempt that falls": (8, edit("assistant.message.start", attempt=2)),
    "a call without an end": (10, lose("tool.call.complete")),
    "a call that ends twice": (10, double("tool.call.complete")),
    "a call that begins twice": (10, double("tool.call.start")),
    "an end of no call": (10, lose("tool.call.start")),
    "a question that stays open": (10, lose("tool.call.resolved")),
    "a question closed twice": (10, double("tool.call.resolved")),
    "a question asked twice": (10, double("tool.call.request")),
    "two answers": (10, double("tool.call.response", decision="deny")),
    "an answer to no question": (10, edit("tool.call.response", request_id="r9.q0")),
    "an answer after the question was closed": (10, move("tool.call.response", "tool.call.complete")),
    "a hole in the outputs": (11, lose("agent.output")),
    "an output twice": (11, double("agent.output")),
    "a patch for another version": (11, edit("document.update", 1, DOCUMENT, base_version=0)),
    "a lost update": (11, lose("document.update", 0, DOCUMENT)),
    "a revision that jumps": (11, edit("conversation.updated", revision=2)),
    "a change told twice": (11, double("conversation.updated")),
    "a change that is not told": (11, lose("conversation.updated")),
    "an upload without an end": (12, lose("file.upload.failed")),
    "an upload that ends twice": (12, double("file.upload.failed")),
    "an end of nobody's upload": (12, edit("file.upload.failed", upload_id="0" * 32)),
    "an event no fold can read": (13, edit("chat.configure", settings=7)),
}
"""Fault → the rule it breaks, and how."""


def test_a_story_that_keeps_the_rules_has_no_violation() -> None:
    """Whole, and at every moment before its end, when what began may still be open."""
    story = told_story()

    assert log_violations(story.lines(), TENANT) == []
    for length in range(len(story.logs[HOME])):
        so_far = {HOME: story.lines()[HOME][:length]}
        assert log_violations(so_far, TENANT, is_quiet=False) == []


@pytest.mark.parametrize("fault", LOG_FAULTS)
def test_every_broken_rule_of_a_log_is_found(fault: str) -> None:
    """One thing wrong; the rule it breaks is among those that are named."""
    rule, change = LOG_FAULTS[fault]
    story = told_story()

    change(story)

    found = log_violations(story.lines(), TENANT)
    assert rule in {violation.rule for violation in found}, found


def test_two_modes_of_one_document_are_found() -> None:
    """Rule 11: the first update fixes the mode."""
    story = told_story()
    story.add("document.update", {"update": "AAAA"}, channel=DOCUMENT)

    assert 11 in {violation.rule for violation in log_violations(story.lines(), TENANT)}


# What one socket sees of it.


class Socket:
    """A socket that asked for everything and got it: `texts` may be broken before it is judged."""

    def __init__(self) -> None:
        self.logs = told_story().lines()
        events = self.logs[HOME]
        self.sent: list[Json] = [
            {"type": "channel.subscribe", "id": "s1", "payload": {"channels": [{"channel": HOME, "after": "0"}]}},
            {"type": "chat.message", "id": "m3", "channel": HOME, "payload": {"text": "do it"}},
        ]
        self.frames: list[Json | str] = [subscribed(self.logs, 2), events[0], events[1], resumed(2)]
        stored = {"id": json.loads(events[2])["id"], "seq": 3, "duplicate": False, "durability": "memory"}
        received = {**stored, "disposition": "queued", "run_id": "r1"}
        self.frames.append({"type": "message.received", "re": "m3", "channel": HOME, "payload": received})
        self.frames += events[2:6]
        self.frames += [delta(TEXT, at, at + 6) for at in range(0, len(TEXT), 6)]
        self.frames += events[6:8]
        self.frames += [progress(0.5), progress(1)]
        self.frames += events[8:]

    def found(self, *, is_quiet: bool = True) -> set[int]:
        """The rules that are broken."""
        texts = [frame if isinstance(frame, str) else text_of(frame) for frame in self.frames]
        violations = socket_violations(texts, self.sent, self.logs, TENANT, is_quiet=is_quiet)
        return {violation.rule for violation in violations}

    def at(self, type_: str, nth: int = 0) -> int:
        """The place of the first frame of this type."""
        kinds = [json.loads(f)["type"] if isinstance(f, str) else f["type"] for f in self.frames]
        return [place for place, kind in enumerate(kinds) if kind == type_][nth]

    def frame(self, type_: str, nth: int = 0) -> Json:
        """A frame that is not an event, to be changed."""
        found = self.frames[self.at(type_, nth)]
        assert isinstance(found, dict)
        return found


def subscribed(logs: dict[str, list[str]], at: int) -> Json:
    """The announcement of a replay of the first `at` events, with the state there."""
    fold = ChannelState.begin(parse_channel(TENANT, HOME))
    for line in logs[HOME][:at]:
        fold.advance(record_of(json.loads(line)))
    mark = {"id": fold.id, "seq": at}
    payload = {
        "epoch": "e", "head": mark, "floor": {"id": "0", "seq": 0}, "recovered": True, "replay": at, "gap": None,
        "state_at": at, "state": json.loads(fold.render()),
    }  # fmt: skip # a table
    return {"type": "channel.subscribed", "re": "s1", "channel": HOME, "payload": payload}


def resumed(count: int) -> Json:
    payload = {"from_seq": 1, "to_seq": count, "count": count, "gap": None}
    return {"type": "channel.resumed", "channel": HOME, "payload": payload}


def signal(type_: str, payload: Json) -> Json:
    return {"channel": HOME, "type": type_, "v": 1, "actor": AGENT, "payload": payload}


def delta(text: str, start: int, end: int, attempt: int = 1) -> Json:
    piece = text[start:end]
    payload = {**AT, "attempt": attempt, "offset": start, "end": start + len(piece), "delta": piece}
    return signal("assistant.message.delta", payload)


def progress(amount: float) -> Json:
    return signal("tool.call.progress", {"tool_call_id": "t1", "run_id": "r1", "progress": amount})


def drop(type_: str, nth: int = 0) -> Callable[[Socket], None]:
    return lambda socket: socket.frames.pop(socket.at(type_, nth)) and None


def again(type_: str, nth: int = 0) -> Callable[[Socket], None]:
    return lambda socket: socket.frames.insert(socket.at(type_, nth), socket.frames[socket.at(type_, nth)])


def change(type_: str, nth: int = 0, **fields: Any) -> Callable[[Socket], None]:
    return lambda socket: socket.frame(type_, nth)["payload"].update(fields)


def swap(type_: str, other: str) -> Callable[[Socket], None]:
    def act(socket: Socket) -> None:
        a, b = socket.at(type_), socket.at(other)
        socket.frames[a], socket.frames[b] = socket.frames[b], socket.frames[a]

    return act


def respell(socket: Socket) -> None:
    """The same event, in other bytes."""
    place = socket.at("agent.complete")
    socket.frames[place] = json.dumps(json.loads(str(socket.frames[place])))


def wrong_state(socket: Socket) -> None:
    socket.frame("channel.subscribed")["payload"]["state"]["title"] = "Other"


SOCKET_FAULTS: dict[str, tuple[int, Callable[[Socket], None]]] = {
    "a reply that its command does not have": (0, lambda s: s.frame("message.received").update(type="ack")),
    "a reply with a field too few": (0, lambda s: s.frame("message.received")["payload"].pop("seq") and None),
    "a frame of no catalogue": (0, lambda s: s.frames.append({"type": "hello", "payload": {}})),
    "a signal with an id": (0, lambda s: s.frame("tool.call.progress").update(id="1-1", seq=1)),
    "a signal with a field too many": (0, change("tool.call.progress", user="alice")),
    "an unanswered question of ours": (0, lambda s: s.frames.append({"type": "ack", "channel": HOME, "payload": {}})),
    "an event left out": (1, drop("agent.status", 1)),
    "an event twice": (1, again("agent.status", 1)),
    "events in another order": (1, swap("tool.call.start", "tool.call.request")),
    "an event in other bytes": (1, respell),
    "an end that did not come": (1, drop("file.upload.failed")),
    "an event before channel.subscribed": (2, swap("channel.subscribed", "chat.configure")),
    "a live event before channel.resumed": (2, swap("channel.resumed", "chat.message")),
    "a false count": (2, change("channel.resumed", count=3)),
    "a false range": (2, change("channel.resumed", to_seq=3)),
    "a receipt twice": (2, again("channel.resumed")),
    "a false number of replayed events": (2, change("channel.subscribed", replay=30)),
    "recovered, with a gap": (2, change("channel.subscribed", gap={"reason": "trimmed", "from_seq": 1, "to_seq": 2})),
    "a reply twice": (3, again("message.received")),
    "no reply": (3, drop("message.received")),
    "a reply to a command that is not in the log": (4, change("message.received", seq=5)),
    "a delta at another place": (9, change("assistant.message.delta", 1, delta="other!")),
    "a delta that says something else the second time": (
        9,
        lambda s: s.frames.insert(s.at("assistant.message.delta", 2), delta("x" * 30, 6, 12)),
    ),
    "a last delta that did not come": (9, drop("assistant.message.delta", 3)),
    "a token in the live lane": (6, change("tool.call.progress", message=JWT)),
    "a signed URL in the live lane": (6, change("tool.call.progress", message="https://x/y?expires=1&signature=0f")),
    "a durable event without seq": (6, lambda s: s.frames.append(signal("chat.delete", {"message_id": "1-0"}))),
    "progress that falls": (10, swap("tool.call.progress", "agent.complete")),
    "a state that is not the fold": (13, wrong_state),
    "a state of another place": (13, change("channel.subscribed", state_at=1)),
}


def test_a_socket_that_saw_what_it_should_has_no_violation() -> None:
    """Also in arrays, as a client that announced `batch` gets it; and at every moment before the end."""
    socket = Socket()
    texts = [frame if isinstance(frame, str) else text_of(frame) for frame in socket.frames]
    in_arrays = [f"[{','.join(texts[at : at + 7])}]" for at in range(0, len(texts), 7)]

    assert socket_violations(texts, socket.sent, socket.logs, TENANT) == []
    assert socket_violations(in_arrays, socket.sent, socket.logs, TENANT) == []
    for length in range(len(texts)):
        assert socket_violations(texts[:length], socket.sent, socket.logs, TENANT, is_quiet=False) == []


@pytest.mark.parametrize("fault", SOCKET_FAULTS)
def test_every_broken_rule_of_a_socket_is_found(fault: str) -> None:
    """One thing wrong; the rule it breaks is among those that are named (0: the catalogue itself)."""
    rule, act = SOCKET_FAULTS[fault]
    socket = Socket()

    act(socket)

    if fault == "progress that falls":
        socket.frames.append(progress(0.25))
    assert rule in socket.found()


@given(lost=st.sets(st.integers(0, 3)), is_doubled=st.booleans())
def test_lost_and_repeated_deltas_are_no_violation_unless_the_end_is_short(lost: set[int], is_doubled: bool) -> None:
    """The offset rule heals both: what is held stays a prefix. Only a missing tail with none missed before it is one."""
    socket = Socket()
    places = [socket.at("assistant.message.delta", nth) for nth in range(4)]
    for nth in sorted(lost, reverse=True):
        socket.frames.pop(places[nth])
    if is_doubled and 0 not in lost:
        socket.frames.insert(places[0], socket.frames[places[0]])

    is_only_tail = bool(lost) and lost == set(range(min(lost), 4)) and min(lost) > 0
    assert socket.found() == ({9} if is_only_tail else set())


@given(st.data())
def test_any_event_lost_doubled_or_changed_on_the_way_is_found(data: st.DataObject) -> None:
    """Whatever the event: what a socket saw is what is stored, once, in order, byte for byte."""
    socket = Socket()
    events = [place for place, frame in enumerate(socket.frames) if isinstance(frame, str)]
    place = data.draw(st.sampled_from(events))
    how = data.draw(st.sampled_from(["lost", "doubled", "changed"]))
    if how == "lost":
        socket.frames.pop(place)
    elif how == "doubled":
        socket.frames.insert(place, socket.frames[place])
    else:
        socket.frames[place] = str(socket.frames[place]).replace('"v":1', '"v":2')

    assert 1 in socket.found()


def test_a_replayed_answer_need_not_have_deltas() -> None:
    """A latecomer gets the start and the end from the log, and no deltas: nothing was lost."""
    socket = Socket()
    events = socket.logs[HOME]
    socket.frames = [subscribed(socket.logs, len(events)), *events, resumed(len(events))]
    socket.sent.pop()

    assert socket.found() == set()
