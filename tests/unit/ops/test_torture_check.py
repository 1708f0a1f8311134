"""The torture's checker on histories made by hand: each wrong one is named, the right one they are made from is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ops.torture.check import judge, main
from ops.torture.history import History, hash_of
from ops.torture.rules.runs import answer_of, pieces_of

ROOM, TENANT = "conversation:1", "acme"
MARK = "⟦acme⟧"


class Story:
    """A history that grows. Time passes by 10 ms with each record."""

    def __init__(self) -> None:
        self.t = 1_000.0
        self.records: list[dict[str, Any]] = []
        self.seqs: dict[tuple[str, str], list[dict[str, Any]]] = {}
        self.add(
            "head", seed=1, tenants={TENANT: MARK, "other": "⟦other⟧"}, expects=[], faults=[],
            bounds={"array_bytes": 262_144, "presence_ms": 1_000, "heal_ms": 0, "settle_ms": 0},
        )  # fmt: skip # many arguments

    def add(self, kind: str, **fields: Any) -> dict[str, Any]:
        self.t += 10
        record = {"t": self.t, "k": kind, **fields}
        self.records.append(record)
        return record

    def raw(self, event: dict[str, Any]) -> str:
        text = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
        name = hash_of(text.encode())
        if not any(record["k"] == "bytes" and record["h"] == name for record in self.records):
            self.add("bytes", h=name, raw=text)
        return name

    def store(self, kind: str, payload: dict[str, Any], actor: str = "alice", **meta: str) -> dict[str, Any]:
        """The next event of the room; nobody has seen it yet."""
        place = meta.pop("tenant", TENANT), meta.pop("channel", ROOM)
        events = self.seqs.setdefault(place, [])
        who = {"kind": "user" if "command" in meta else "agent", "id": actor}
        event = {
            "id": f"{1_000_000 + len(events)}-0", "seq": len(events) + 1, "channel": place[1], "type": kind, "v": 1,
            "actor": who, **({"meta": meta} if meta else {}), "payload": payload,
        }  # fmt: skip # a table
        events.append(event)
        return event

    def command(self, op: str, text: str, kind: str = "chat.message", **more: Any) -> dict[str, Any]:
        """A command sent, stored and acknowledged."""
        self.begin(op, text, kind, **more)
        payload = more.get("payload", {"text": MARK + text})
        event = self.store(kind, payload, command=op)
        self.acknowledge(op, event)
        return event

    def begin(self, op: str, text: str, kind: str = "chat.message", **more: Any) -> None:
        fields = {"channel": ROOM, "id": op, "payload": {"text": MARK + text}} | more
        self.add("invoke", op=op, p="c1", tenant=TENANT, user="alice", node="n0", via="socket", type=kind, **fields)

    def acknowledge(self, op: str, event: dict[str, Any], **more: Any) -> None:
        receipt = {"id": event["id"], "seq": event["seq"], "duplicate": False, "durability": "fsync"} | more
        self.add("ok", op=op, reply={"type": "message.received", "payload": receipt})

    def subscribe(self, reader: str, cursor: dict[str, Any] | None = None, **more: Any) -> None:
        self.add(
            "subscribe", r=reader, p="c1", tenant=TENANT, user="alice", node="n0", via="socket", channel=ROOM,
            cursor=cursor, **more,
        )  # fmt: skip # many arguments

    def told(self, reader: str, **more: Any) -> None:
        head = len(self.seqs.get((TENANT, ROOM), []))
        payload = {
            "epoch": "e", "head": {"id": "0", "seq": head}, "floor": {"id": "0", "seq": 0}, "recovered": True,
            "replay": 0, "gap": None, "state_at": head,
        }  # fmt: skip # a table
        self.add("subscribed", r=reader, n=300, payload=payload | more)

    def got(self, reader: str, *events: dict[str, Any], n: int = 200) -> None:
        found = [[event["seq"], event["id"], self.raw(event)] for event in events]
        self.add("got", r=reader, n=n, e=found)

    def read(self, op: str, kind: str, reply: dict[str, Any], **more: Any) -> None:
        self.begin(op, "", kind, payload=more.pop("payload", {}), **more)
        self.add("ok", op=op, reply={"type": kind, "payload": reply})

    def end(self, **logs: list[dict[str, Any]]) -> History:
        """Calm, the logs as they are, the end."""
        self.add("calm")
        for (tenant, channel), events in self.seqs.items():
            held = logs.get("room", events) if channel == ROOM else events
            found = [[event["seq"], event["id"], self.raw(event)] for event in held]
            self.add("log", tenant=tenant, channel=channel, source="redis", e=found)
        self.add("end")
        return History(self.records)


Change = Callable[[Story], History | None]


def talk() -> tuple[Story, list[dict[str, Any]]]:
    """Three messages, and a reader from the beginning who got them all."""
    story = Story()
    story.subscribe("r1", {"after": "0"})
    story.told("r1")
    events = [story.command(f"m{n}", f"message {n}") for n in range(1, 4)]
    story.got("r1", *events)
    return story, events


def kinds_of(history: History) -> set[str]:
    return {wrong.kind for wrong in judge(history).wrong}


def test_a_right_history_is_whole() -> None:
    story, _ = talk()

    verdict = judge(story.end())

    assert verdict.wrong == []
    assert verdict.looked["acknowledged"] == 3
    assert verdict.looked["deliveries"] == 3


def lost(story: Story, events: list[dict[str, Any]]) -> History:
    return story.end(room=events[:2])


def stored_twice(story: Story, events: list[dict[str, Any]]) -> History:
    again = story.store("chat.message", events[0]["payload"], command="m1")
    story.got("r1", again)
    return story.end()


def phantom(story: Story, events: list[dict[str, Any]]) -> History:
    story.got("r1", story.store("chat.message", {"text": "nobody's"}, command="m9"))
    return story.end()


def other_payload(story: Story, events: list[dict[str, Any]]) -> History:
    story.begin("m4", "four")
    event = story.store("chat.message", {"text": MARK + "five"}, command="m4")
    story.acknowledge("m4", event)
    story.got("r1", event)
    return story.end()


def log_with_a_hole(story: Story, events: list[dict[str, Any]]) -> History:
    return story.end(room=[events[0], events[2]])


def late(story: Story, events: list[dict[str, Any]]) -> History:
    """`first` is acknowledged before `second` begins, and stands behind it."""
    place = story.seqs[(TENANT, ROOM)]
    second = story.store("chat.message", {"text": MARK + "second"}, command="second")
    first = story.store("chat.message", {"text": MARK + "first"}, command="first")
    story.begin("first", "first")
    story.acknowledge("first", first)
    story.begin("second", "second")
    story.acknowledge("second", second)
    story.got("r1", *place[3:])
    return story.end()


def two_answers(story: Story, events: list[dict[str, Any]]) -> History:
    story.begin("m1-again", "message 1", id="m1")
    story.acknowledge("m1-again", events[1], duplicate=True)
    return story.end()


def twice_new(story: Story, events: list[dict[str, Any]]) -> History:
    story.begin("m1-again", "message 1", id="m1")
    story.acknowledge("m1-again", events[0])
    return story.end()


def wrong_seq(story: Story, events: list[dict[str, Any]]) -> History:
    story.begin("m4", "four")
    event = story.store("chat.message", {"text": MARK + "four"}, command="m4")
    story.acknowledge("m4", event, seq=5)
    story.got("r1", event)
    return story.end()


def first_called_duplicate(story: Story, events: list[dict[str, Any]]) -> History:
    story.begin("m4", "four")
    event = story.store("chat.message", {"text": MARK + "four"}, command="m4")
    story.acknowledge("m4", event, duplicate=True)
    story.got("r1", event)
    return story.end()


def receipt_of_a_replay(story: Story, events: list[dict[str, Any]]) -> History:
    story.subscribe("r2", {"after": events[0]["id"], "seq": 1})
    story.told("r2", replay=2)
    story.got("r2", *events[1:])
    story.add("resumed", r="r2", payload={"from_seq": 2, "to_seq": 3, "count": 3, "gap": None})
    return story.end()


def hole(story: Story, events: list[dict[str, Any]]) -> History:
    story.subscribe("r2", {"after": "0"})
    story.told("r2")
    story.got("r2", events[0], events[2])
    return story.end()


def skipped_on_resume(story: Story, events: list[dict[str, Any]]) -> History:
    story.subscribe("r2", {"after": events[0]["id"], "seq": 1})
    story.told("r2")
    story.got("r2", events[2])
    return story.end()


def taken_up(story: Story, after_seq: int, replay: int) -> None:
    """The node refuses a channel that is followed, and takes it up by itself a moment later."""
    story.add("left", r="r1", why="refused 4013", is_own=False)
    story.subscribe("r2", {"after": "?", "seq": after_seq, "since": story.t})
    story.told("r2", replay=replay)


def taken_up_at_the_head(story: Story, events: list[dict[str, Any]]) -> History:
    story.command("m4", "message 4")
    taken_up(story, 3, 0)
    return story.end()


def taken_up_too_early(story: Story, events: list[dict[str, Any]]) -> History:
    taken_up(story, 3, 1)
    story.got("r2", events[2])
    return story.end()


def twice_delivered(story: Story, events: list[dict[str, Any]]) -> History:
    story.got("r1", events[1])
    return story.end()


def reordered(story: Story, events: list[dict[str, Any]]) -> History:
    story.subscribe("r2", {"after": events[0]["id"], "seq": 1})
    story.told("r2")
    story.got("r2", events[2], events[1])
    return story.end()


def needless_gap(story: Story, events: list[dict[str, Any]]) -> History:
    story.subscribe("r2", {"after": events[0]["id"], "seq": 1})
    story.told("r2", recovered=False, gap={"reason": "cursor_unknown", "from_seq": 2, "to_seq": 3})
    return story.end()


def different_bytes(story: Story, events: list[dict[str, Any]]) -> History:
    story.subscribe("r2", {"after": "0"})
    story.told("r2")
    story.got("r2", events[0], events[1] | {"v": 2}, events[2])
    return story.end()


def silent(story: Story, events: list[dict[str, Any]]) -> History:
    story.subscribe("r2", {"after": "0"})
    story.told("r2")
    story.got("r2", *events[:2])
    return story.end()


def foreign(story: Story, events: list[dict[str, Any]]) -> History:
    story.add("signal", r="r1", raw='{"type":"chat.typing","payload":{"user":"⟦other⟧bob"}}')
    return story.end()


def oversize(story: Story, events: list[dict[str, Any]]) -> History:
    story.subscribe("r2", {"after": "0"})
    story.told("r2")
    story.got("r2", *events, n=300_000)
    return story.end()


def unanswered(story: Story, events: list[dict[str, Any]]) -> History:
    story.add("calm")
    story.begin("m4", "four")
    return History(story.records)


def state_behind(story: Story, events: list[dict[str, Any]]) -> History:
    shown = [message_of(event, before) for event, before in zip(events, [None, *events], strict=False)]
    shown[2]["text"] = "something else"
    story.read("s1", "read.state", {"epoch": "e", "state_at": 3, "state": state_of(shown)})
    return story.end()


def message_of(event: dict[str, Any], before: dict[str, Any] | None) -> dict[str, Any]:
    parent = {"parent_id": before["id"]} if before else {}
    return {
        "message_id": event["id"], "role": "user", "actor": event["actor"], "text": event["payload"]["text"], **parent,
        "revision": 0, "deleted": False,
    }  # fmt: skip # a table


def state_of(messages: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "metadata": {}, "count": len(messages), "title": None, "settings": {}, "revision": 0,
        "active_leaf": messages[-1]["message_id"], "messages": messages, "active_runs": [], "pending_requests": [],
        "read_markers": {}, "members": [], "access": {},
    }  # fmt: skip # a table


def test_a_right_state_is_whole() -> None:
    story, events = talk()
    shown = [message_of(event, before) for event, before in zip(events, [None, *events], strict=False)]
    story.read("s1", "read.state", {"epoch": "e", "state_at": 3, "state": state_of(shown)})

    verdict = judge(story.end())

    assert verdict.wrong == []
    assert verdict.looked["states"] == 1


def test_right_answers_are_whole() -> None:
    """Everything the rules of answers look at, as it should be: none of them raises an alarm, and each has looked."""
    story, events = talk()
    inbox = "user:alice"
    page_of(story, events[:2], events[1]["id"], after="0", types=["chat.*"])
    page_of(story, events[1:2], events[1]["id"], before=events[2]["id"])
    story.subscribe("r2", {"rewind": 5})
    story.told("r2", replay=3)
    story.got("r2", *events)
    notice = story.store("team.notification", {"title": "t"}, channel=inbox, command="n1")
    story.begin("n1", "", "team.notification", channel=inbox, payload={"title": "t"})
    story.acknowledge("n1", notice)
    story.begin("n2", "", "team.notification.read", channel=inbox, payload={"up_to": notice["id"]})
    read = story.store("team.notification.read", {"up_to": notice["id"]}, channel=inbox, command="n2")
    story.acknowledge("n2", read, unread=0)
    held = {"message_id": "r1.0", "run_id": "r1", "attempt": 1, "text": "new", "offset": 3}
    read_state(story, events, open_messages=[held], uploads=[{"upload_id": "f1", "sent": 0, "total": 1}])

    verdict = judge(story.end())

    assert verdict.wrong == []
    assert (verdict.looked["pages looked through"], verdict.looked["rewinds"]) == (2, 1)
    assert verdict.looked["unread counts in receipts"] == 1


def run_of(story: Story, question: dict[str, Any], *, ends: int = 1, text: str | None = None) -> list[dict[str, Any]]:
    """An answer, streamed and ended."""
    cause = {"correlation": question["id"], "causation": question["id"]}
    about: dict[str, Any] = {"run_id": "run-1", "agent": "torture", "attempt": 1, "segment": 1}
    answer = {"message_id": "run-1.0", "run_id": "run-1", "attempt": 1}
    whole = answer_of(question["payload"]["text"]) if text is None else text
    found = [
        story.store("agent.status", about | {"state": "queued"}, "torture", **cause),
        story.store("assistant.message.start", answer | {"agent": "torture"}, "torture", **cause),
        story.store("assistant.message.end", answer | {"finish_reason": "stop", "text": whole}, "torture", **cause),
    ]
    done = {"run_id": "run-1", "agent": "torture", "outcome": "success", "message_ids": ["run-1.0"], "attempts": 1}
    return found + [story.store("agent.complete", done, "torture", **cause) for _ in range(ends)]


def stream(story: Story, pieces: list[str], shift: int = 0) -> None:
    """The pieces as deltas to `r1`."""
    at = 0
    for number, piece in enumerate(pieces):
        offset = at + (shift if number > 1 else 0)
        payload = {
            "message_id": "run-1.0", "run_id": "run-1", "attempt": 1, "track": "text", "offset": offset,
            "end": offset + len(piece), "delta": piece,
        }  # fmt: skip # a table
        story.add("signal", r="r1", raw=json.dumps({"type": "assistant.message.delta", "payload": payload}))
        at += len(piece)


def test_a_right_run_is_whole() -> None:
    story, events = talk()
    found = run_of(story, events[2])
    story.got("r1", *found[:2])
    stream(story, pieces_of(events[2]["payload"]["text"]))
    story.got("r1", *found[2:])
    story.add("effect", run="run-1", key="tool")

    verdict = judge(story.end())

    assert verdict.wrong == []
    assert [verdict.looked[name] for name in ("runs", "answers", "streamed answers", "effects of agents")] == [1] * 4


def run_ended_twice(story: Story, events: list[dict[str, Any]]) -> History:
    story.got("r1", *run_of(story, events[2], ends=2))
    return story.end()


def run_never_ended(story: Story, events: list[dict[str, Any]]) -> History:
    story.got("r1", *run_of(story, events[2], ends=0))
    return story.end()


def answer_altered(story: Story, events: list[dict[str, Any]]) -> History:
    story.got("r1", *run_of(story, events[2], text="not what the agent said"))
    return story.end()


def deltas_altered(story: Story, events: list[dict[str, Any]]) -> History:
    found = run_of(story, events[2])
    story.got("r1", *found[:2])
    pieces = pieces_of(events[2]["payload"]["text"])
    stream(story, [*pieces[:3], "nobody said this", *pieces[3:]])
    story.got("r1", *found[2:])
    return story.end()


def delta_that_counts_wrong(story: Story, events: list[dict[str, Any]]) -> History:
    payload = {"message_id": "x.0", "run_id": "x", "attempt": 1, "offset": 0, "end": 4, "delta": "𝄞𝄞"}
    story.add("signal", r="r1", raw=json.dumps({"type": "assistant.message.delta", "payload": payload}))
    return story.end()


def effect_of_an_agent_repeated(story: Story, events: list[dict[str, Any]]) -> History:
    story.add("effect", run="run-1", key="tool")
    story.add("effect", run="run-1", key="tool")
    return story.end()


def change_told_twice(story: Story, events: list[dict[str, Any]]) -> History:
    change = story.command("c1", "", "chat.configure", payload={"settings": {"title": MARK}})
    cause = {"correlation": change["id"], "causation": change["id"]}
    told = {"revision": 1, "changes": {"title": MARK}, "by": "alice"}
    story.got("r1", change, *(story.store("conversation.updated", told, **cause) for _ in range(2)))
    return story.end()


def change_never_told(story: Story, events: list[dict[str, Any]]) -> History:
    story.got("r1", story.command("c1", "", "chat.configure", payload={"settings": {"title": MARK}}))
    return story.end()


def absent(story: Story, events: list[dict[str, Any]]) -> History:
    story.subscribe("r2", {"after": "$"}, there=True)
    story.told("r2")
    story.t += 2_000
    story.read("p1", "read.presence", {"presence": []})
    return story.end()


def ghost(story: Story, events: list[dict[str, Any]]) -> History:
    story.subscribe("r2", {"after": "$"}, there=True)
    story.told("r2")
    story.add("left", r="r2", why="closed", is_own=True)
    story.t += 2_000
    story.read("p1", "read.presence", {"presence": [{"user": "alice", "status": "active", "devices": 1}]})
    return story.end()


def false_leave(story: Story, events: list[dict[str, Any]]) -> History:
    story.subscribe("r2", {"after": "$"}, there=True)
    story.told("r2")
    story.add("calm")
    story.t += 6_000
    payload = {"user": "alice", "status": "left", "devices": 0}
    story.add("signal", r="r1", raw=json.dumps({"type": "channel.presence", "payload": payload}))
    story.t += 2_000
    story.add("left", r="r2", why="closed", is_own=True)
    return History(story.records)


def other_file(story: Story, events: list[dict[str, Any]]) -> History:
    upload(story, is_corrupt=False)
    story.read("g1", "file.get", {"sha256": "bb"}, payload={"file_id": "f1"})
    return story.end()


def corrupt_file_ready(story: Story, events: list[dict[str, Any]]) -> History:
    upload(story, is_corrupt=True)
    return story.end()


def upload(story: Story, *, is_corrupt: bool) -> None:
    asked = story.command("u1", "", "file.upload.request", payload={"filename": MARK})
    payload = {"file_id": "f1", "sha256": "aa", "is_corrupt": is_corrupt}
    story.read("f1", "file.put", {"sha256": "aa"}, payload=payload)
    ready = story.store(
        "file.ready", {"file_id": "f1", "filename": MARK}, correlation=asked["id"], causation=asked["id"]
    )
    story.got("r1", asked, ready)


def read_mark_back(story: Story, events: list[dict[str, Any]]) -> History:
    story.read("k1", "channel.read", {}, payload={"up_to": events[2]["id"]})
    shown = [message_of(event, before) for event, before in zip(events, [None, *events], strict=False)]
    state = state_of(shown) | {"read_markers": {"alice": events[0]["id"]}}
    story.read("s1", "read.state", {"epoch": "e", "state_at": 3, "state": state})
    return story.end()


def revoked_and_taken(story: Story, events: list[dict[str, Any]]) -> History:
    story.read("t1", "token.revoke", {}, payload={"token": "jti-1"})
    story.t += 60_000
    story.got("r1", story.command("m4", "four", token="jti-1"))
    return story.end()


def unread_wrong(story: Story, events: list[dict[str, Any]]) -> History:
    inbox = {"tenant": TENANT, "channel": "user:alice"}
    story.begin("n1", "", "team.notification", payload={"title": MARK}, channel="user:alice")
    note = story.store("team.notification", {"kind": "k", "title": MARK}, command="n1", **inbox)
    story.acknowledge("n1", note)
    item = {"id": note["id"], "actor": note["actor"], **note["payload"]}
    state = {"metadata": {}, "count": 1, "notifications": [item], "unread": 2}
    story.read("s1", "read.state", {"epoch": "e", "state_at": 1, "state": state}, channel="user:alice")
    return story.end()


def page_with_a_hole(story: Story, events: list[dict[str, Any]]) -> History:
    found = [[event["seq"], event["id"], story.raw(event)] for event in (events[0], events[2])]
    story.read(f"p{len(story.records)}", "read.page", {"e": found, "gap": None}, payload={"after": "0", "after_seq": 0})
    return story.end()


def pipeline_turned(story: Story, events: list[dict[str, Any]]) -> History:
    story.begin("m4", "four", c="c1.1")
    story.begin("m5", "five", c="c1.1")
    five = story.store("chat.message", {"text": MARK + "five"}, command="m5")
    four = story.store("chat.message", {"text": MARK + "four"}, command="m4")
    story.acknowledge("m4", four)
    story.acknowledge("m5", five)
    story.got("r1", five, four)
    return story.end()


def refused_for_nothing(story: Story, events: list[dict[str, Any]]) -> History:
    story.begin("m4", "four")
    story.add("fail", op="m4", code=4009)
    return story.end()


def state_of_another_moment(story: Story, events: list[dict[str, Any]]) -> History:
    shown = [message_of(event, before) for event, before in zip(events, [None, *events], strict=False)]
    at = {"at": events[1]["id"]}
    story.read("s1", "read.state", {"epoch": "e", "state_at": 3, "state": state_of(shown)}, payload=at)
    return story.end()


def page_of(story: Story, events: list[dict[str, Any]], following: str | None, **asked: Any) -> None:
    found = [[event["seq"], event["id"], story.raw(event)] for event in events]
    story.read(
        f"p{len(story.records)}", "read.page", {"e": found, "gap": None, "next": following, "n": 10}, payload=asked
    )


def page_that_goes_on_too_far(story: Story, events: list[dict[str, Any]]) -> History:
    page_of(story, events[:1], events[2]["id"], after="0", types=["chat.*"])
    return story.end()


def page_back_without_its_edge(story: Story, events: list[dict[str, Any]]) -> History:
    page_of(story, events[1:2], events[0]["id"], before=events[2]["id"])
    return story.end()


def short_rewind(story: Story, events: list[dict[str, Any]]) -> History:
    story.subscribe("r2", {"rewind": 2})
    story.told("r2", replay=1)
    story.got("r2", events[2])
    return story.end()


def gap_over_what_is_kept(story: Story, events: list[dict[str, Any]]) -> History:
    fault = {"f": "f1", "name": "channel trimmed", "loses": {"levels": ["fsync"], "since": None, "places": None}}
    story.add("fault", phase="begin", **fault)
    story.add("fault", phase="end", f="f1", name="channel trimmed", hit="")
    story.subscribe("r2", {"after": events[0]["id"], "seq": 1})
    story.told("r2", gap={"reason": "trimmed", "from_seq": 2, "to_seq": 3})
    return story.end(room=events[2:])


def unread_of_before(story: Story, events: list[dict[str, Any]]) -> History:
    inbox = "user:alice"
    notice = story.store("team.notification", {"title": "t"}, channel=inbox, command="n1")
    story.begin("n1", "", "team.notification", channel=inbox, payload={"title": "t"})
    story.acknowledge("n1", notice)
    story.begin("n2", "", "team.notification.read", channel=inbox, payload={"up_to": notice["id"]})
    read = story.store("team.notification.read", {"up_to": notice["id"]}, channel=inbox, command="n2")
    story.acknowledge("n2", read, unread=1)
    return story.end()


def refused_though_stored(story: Story, events: list[dict[str, Any]]) -> History:
    story.begin("again", "message 1", id="m1")
    story.add("fail", op="again", code=4018)
    return story.end()


def sent_away_for_nothing(story: Story, events: list[dict[str, Any]]) -> History:
    story.subscribe("r2", {"after": "0"})
    story.told("r2")
    story.got("r2", *events)
    story.add("left", r="r2", why="closed 4019", is_own=False)
    return story.end()


def settings_not_followed(story: Story, events: list[dict[str, Any]]) -> History:
    story.command("s1", "", "chat.configure", payload={"settings": {"agent": "demo"}})
    story.t += 10_000
    story.begin("m9", "asked")
    asked = story.store("chat.message", {"text": MARK + "asked"}, command="m9")
    story.acknowledge("m9", asked, disposition="stored")
    story.store("conversation.updated", {"revision": 1, "changes": {}}, causation=events[-1]["id"])
    return story.end()


def agent_called_unavailable(story: Story, events: list[dict[str, Any]]) -> History:
    story.t += 4_000
    story.begin("m9", "asked", payload={"text": MARK, "agent": "demo"})
    story.add("fail", op="m9", code=4007)
    return story.end()


def open_answer_that_counts_wrong(story: Story, events: list[dict[str, Any]]) -> History:
    held = {"message_id": "r1.0", "run_id": "r1", "attempt": 2, "text": "old", "offset": 0}
    read_state(story, events, open_messages=[held])
    return story.end()


def ended_upload_listed(story: Story, events: list[dict[str, Any]]) -> History:
    ready = story.store("file.ready", {"file_id": "f1"}, "hub", causation=events[0]["id"])
    shown = {"upload_id": "f1", "user": "alice", "sent": 1, "total": 1, "state": "verifying"}
    read_state(story, [*events, ready], uploads=[shown])
    return story.end()


def read_state(story: Story, events: list[dict[str, Any]], **live: Any) -> None:
    """The state of the room as it is, with these live fields."""
    said = [event for event in events if event["type"] == "chat.message"]
    messages = [message_of(event, said[at - 1] if at else None) for at, event in enumerate(said)]
    shown = state_of(messages) | {"count": len(events)} | live
    story.read("q1", "read.state", {"epoch": "e", "state_at": len(events), "state": shown})


def never_fired(story: Story, events: list[dict[str, Any]]) -> History:
    story.records[0]["faults"] = ["node killed"]
    return story.end()


def never_looked(story: Story, events: list[dict[str, Any]]) -> History:
    story.records[0]["expects"] = ["runs"]
    return story.end()


CASES: list[tuple[Callable[[Story, list[dict[str, Any]]], History], str]] = [
    (lost, "lost"),
    (stored_twice, "stored twice"),
    (phantom, "phantom"),
    (other_payload, "altered"),
    (log_with_a_hole, "log disorder"),
    (late, "real time"),
    (two_answers, "two answers"),
    (twice_new, "two answers"),
    (wrong_seq, "lying receipt"),
    (first_called_duplicate, "lying receipt"),
    (receipt_of_a_replay, "lying receipt"),
    (hole, "untold hole"),
    (skipped_on_resume, "untold hole"),
    (page_with_a_hole, "untold hole"),
    (taken_up_at_the_head, "untold hole"),
    (taken_up_too_early, "reordered"),
    (twice_delivered, "delivered twice"),
    (reordered, "reordered"),
    (needless_gap, "needless gap"),
    (different_bytes, "different bytes"),
    (silent, "silent reader"),
    (foreign, "foreign bytes"),
    (oversize, "oversize"),
    (unanswered, "unanswered"),
    (state_behind, "state"),
    (state_of_another_moment, "state"),
    (pipeline_turned, "pipeline order"),
    (refused_for_nothing, "needless refusal"),
    (unread_wrong, "unread"),
    (run_ended_twice, "run ended twice"),
    (run_never_ended, "run without an end"),
    (answer_altered, "answer altered"),
    (deltas_altered, "deltas"),
    (delta_that_counts_wrong, "deltas"),
    (effect_of_an_agent_repeated, "effect repeated"),
    (change_told_twice, "effect repeated"),
    (change_never_told, "effect missing"),
    (absent, "presence"),
    (ghost, "presence"),
    (false_leave, "presence"),
    (other_file, "upload"),
    (corrupt_file_ready, "upload"),
    (read_mark_back, "read mark"),
    (revoked_and_taken, "token"),
    (never_fired, "fault never fired"),
    (never_looked, "nothing looked at"),
    (page_that_goes_on_too_far, "untold hole"),
    (page_back_without_its_edge, "untold hole"),
    (short_rewind, "untold hole"),
    (gap_over_what_is_kept, "needless gap"),
    (unread_of_before, "unread"),
    (refused_though_stored, "two answers"),
    (sent_away_for_nothing, "needless refusal"),
    (settings_not_followed, "settings not followed"),
    (agent_called_unavailable, "needless refusal"),
    (open_answer_that_counts_wrong, "state"),
    (ended_upload_listed, "state"),
]


@pytest.mark.parametrize(("case", "kind"), CASES, ids=[case.__name__ for case, _ in CASES])
def test_what_is_wrong_is_named(case: Callable[[Story, list[dict[str, Any]]], History], kind: str) -> None:
    story, events = talk()

    assert kind in kinds_of(case(story, events))


def test_a_channel_taken_up_where_it_was_cut_off_is_whole() -> None:
    story, _ = talk()
    event = story.command("m4", "message 4")
    taken_up(story, 3, 1)
    story.got("r2", event)

    assert kinds_of(story.end()) == set()


@pytest.mark.parametrize(("fault", "wrong"), [("redis full", set()), ("redis busy", {"needless refusal"})])
def test_a_refusal_for_want_of_room_needs_a_redis_that_is_full(fault: str, wrong: set[str]) -> None:
    story, _ = talk()
    story.add("fault", f="f1", name=fault, target="redis", phase="begin")
    story.begin("m4", "four")
    story.add("fail", op="m4", code=4011)
    story.add("fault", f="f1", name=fault, target="redis", phase="end")

    assert kinds_of(story.end()) == wrong


def loses(story: Story, levels: list[str]) -> None:
    """Everything is destroyed."""
    story.add("fault", f="f1", name="flushed", target="redis", phase="begin", loses={"levels": levels})
    story.add("fault", f="f1", name="flushed", target="redis", phase="end")


def test_what_a_fault_may_destroy_is_not_lost() -> None:
    story, events = talk()
    loses(story, ["memory", "fsync"])
    story.told("r1", recovered=False, gap={"reason": "epoch_changed"}, head={"id": "0", "seq": 2})

    verdict = judge(story.end(room=events[:2]))

    assert verdict.wrong == []
    assert verdict.told["acknowledged and destroyed by a fault that may"] == 1


@pytest.mark.parametrize(("is_trim", "wrong"), [(False, {"lost"}), (True, set())], ids=["deleted", "trimmed"])
def test_a_command_sent_again_after_a_loss_names_what_is_there(*, is_trim: bool, wrong: set[str]) -> None:
    """An event of a life that is over is no answer any more; one that was only trimmed is."""
    story, events = talk()
    place = [[TENANT, ROOM]]
    loses_this = {"levels": ["fsync"], "places": place, "is_trim": is_trim}
    story.add("fault", f="f1", name="deleted", target="redis", phase="begin", loses=loses_this)
    story.add("fault", f="f1", name="deleted", target="redis", phase="end")
    story.told("r1", recovered=False, gap={"reason": "epoch_changed"}, head={"id": "0", "seq": 3})
    story.begin("m1-again", "message 1", id="m1")
    story.acknowledge("m1-again", events[0], duplicate=True)

    assert kinds_of(story.end(room=events[1:])) == wrong


def test_a_level_that_survives_the_fault_is_lost() -> None:
    story, events = talk()
    loses(story, ["memory"])

    assert "lost" in kinds_of(story.end(room=events[:2]))


def test_a_hole_after_a_loss_must_be_told() -> None:
    story, events = talk()
    loses(story, ["fsync"])
    story.got("r1", events[0] | {"seq": 9, "id": "2000000-0"})

    assert "untold hole" in kinds_of(story.end())


def test_the_program_prints_the_records_that_prove_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1, the kind, and the two records of the command: no others."""
    story, events = talk()
    file = tmp_path / "history.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in lost(story, events).records))

    assert main([str(file)]) == 1
    first, *proof = capsys.readouterr().out.splitlines()
    assert first.startswith("lost: chat.message m3 of alice was acknowledged (fsync) as seq 3 and is not stored")
    assert ['"k": "invoke"' in proof[0], '"k": "ok"' in proof[1]] == [True, True]


@pytest.mark.parametrize("text", ["{", '{"t":1,"k":"ok","op":"nobody"}\n', ""])
def test_a_file_that_cannot_be_judged_is_not_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    file = tmp_path / "history.jsonl"
    file.write_text(text)

    assert main([str(file)]) == 2
    assert "cannot be judged" in capsys.readouterr().err


def test_a_last_line_cut_by_a_kill_is_left_out(tmp_path: Path) -> None:
    story, _ = talk()
    file = tmp_path / "history.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in story.end().records) + '{"t":99,"k":"go')

    assert judge(History.load(file)).wrong == []
