"""The laws every fold keeps, over generated histories of every kind of channel (docs/protocol.md#stream-rules)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections import message_tree, teams
from projections.channel_state import CHANNEL_STATE, PROJECTIONS, ChannelState
from projections.errors import BrokenEvent, EventsMissing
from projections.recorded import Recorded, recorded
from streams.channel import Channel, Kind
from streams.envelope import Entry
from streams.events import CATALOGUE
from streams.json_bytes import JsonObject
from streams.records.uploads import file_id_of
from streams.run_states import OUTCOMES, TRANSITIONS
from support.examples import examples
from support.payload_strategies import payloads

LAWS = examples(30)
"""Few for every run; ten times as many were run when the folds were written."""
NAMED = {"chat.message", "chat.edit", "team.notification", "file.upload.request"}
"""Types whose events' IDs others refer to."""
START_MS = 1_795_367_479_000
USERS = ("alice", "bob", "carol")
RUNS = ("r1", "r2", "r3")
WORDS = st.text("ab c", max_size=8)
VALUES = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-1, 1) | WORDS
JSON = st.recursive(
    VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3), max_leaves=5
)
POINTERS = st.sampled_from(["", "/a", "/b", "/a/0", "/a/-", "/a/b", "/list/1", "/list/-", "/missing/x"])


class Step(NamedTuple):
    """An event to come: its type and payload. Its place in the log is given when the history is written."""

    type: str
    payload: JsonObject


Make = Callable[[st.DataObject, list[str]], Step]
"""Draws a step; the list is of the IDs there are to refer to."""


def channel(kind: Kind) -> Channel:
    return Channel("acme", kind, "42")


def event_id(seq: int) -> str:
    return f"{START_MS + seq * 700}-0"


def _known(data: st.DataObject, ids: list[str]) -> str:
    """A message to refer to: mostly one that is there, now and then one that never was."""
    return data.draw(st.sampled_from([*ids[-6:], "r1.0", "r2.0", "1-0"]))


def _chat(data: st.DataObject, ids: list[str]) -> Step:
    payload: JsonObject = {"text": data.draw(WORDS)}
    if data.draw(st.booleans()):
        payload["parent_id"] = _known(data, ids)
    if data.draw(st.booleans()):
        payload["parts"] = [{"type": "mention", "kind": "user", "id": "bob"}]
    return Step("chat.message", payload)


def _edit(data: st.DataObject, ids: list[str]) -> Step:
    mode = data.draw(st.sampled_from(["replace", "branch"]))
    return Step("chat.edit", {"message_id": _known(data, ids), "text": data.draw(WORDS), "mode": mode, "rerun": True})


def _about(data: st.DataObject, ids: list[str]) -> Step:
    """Everything people do to messages."""
    message_id = _known(data, ids)
    return data.draw(st.sampled_from([
        Step("chat.delete", {"message_id": message_id, "scope": "subtree"}),
        Step("chat.delete", {"message_id": message_id}),
        Step("chat.react", {"message_id": message_id, "reaction": "👍", "op": "add"}),
        Step("chat.react", {"message_id": message_id, "reaction": "👍", "op": "remove"}),
        Step("chat.feedback", {"message_id": message_id, "rating": "up", "comment": "so"}),
        Step("chat.branch", {"leaf_id": message_id}),
        Step("chat.regenerate", {"message_id": message_id}),
    ]))  # fmt: skip # a table


def _settings(data: st.DataObject, _ids: list[str]) -> Step:
    given_ = data.draw(st.fixed_dictionaries({}, optional={
        "title": st.none() | WORDS, "model": st.none() | WORDS, "temperature": st.none() | st.floats(0, 2),
    }))  # fmt: skip # a table
    if data.draw(st.booleans()):
        return Step("chat.configure", {"settings": given_})
    changes: JsonObject = {"settings": given_, "title": data.draw(WORDS)}
    return Step("conversation.updated", {"revision": data.draw(st.integers(0, 6)), "changes": changes, "by": "alice"})


def _answer(data: st.DataObject, ids: list[str]) -> Step:
    run_id = data.draw(st.sampled_from(RUNS))
    payload: JsonObject = {
        "message_id": f"{run_id}.{data.draw(st.integers(0, 1))}", "run_id": run_id, "attempt": data.draw(st.integers(1, 3)),
    }  # fmt: skip # a table
    name = data.draw(st.sampled_from(["start", "reset", "end"]))
    if name == "start":
        payload |= {"agent": "demo"}
        if data.draw(st.booleans()):
            payload["parent_id"] = _known(data, ids)
    elif name == "reset":
        payload |= {"keep": 0, "reason": "worker_lost"}
    else:
        text = {"text": data.draw(WORDS)} if data.draw(st.booleans()) else {"text_ref": "0" * 32}
        payload |= {"finish_reason": "stop", **text}
    return Step(f"assistant.message.{name}", payload)


def _run(data: st.DataObject, _ids: list[str]) -> Step:
    run_id = data.draw(st.sampled_from(RUNS))
    status: JsonObject = {
        "run_id": run_id, "agent": "demo", "state": data.draw(st.sampled_from(list(TRANSITIONS))),
        "attempt": data.draw(st.integers(1, 3)), "segment": data.draw(st.integers(1, 3)),
    }  # fmt: skip # a table
    complete: JsonObject = {
        "run_id": run_id, "agent": "demo", "outcome": data.draw(st.sampled_from(list(OUTCOMES))),
        "message_ids": [], "duration_ms": 1, "attempts": 1, "result": data.draw(JSON),
    }  # fmt: skip # a table
    output: JsonObject = {"run_id": run_id, "index": 0, "kind": "json", "value": data.draw(JSON)}
    return data.draw(st.sampled_from([
        Step("agent.status", status), Step("agent.complete", complete), Step("agent.output", output),
    ]))  # fmt: skip # a table


def _tool(data: st.DataObject, _ids: list[str]) -> Step:
    run_id, number = data.draw(st.sampled_from(RUNS)), data.draw(st.integers(0, 2))
    call: JsonObject = {"tool_call_id": f"c{number}", "run_id": run_id}
    asked: JsonObject = {"request_id": f"{run_id}.q{number}", "run_id": run_id}
    return data.draw(st.sampled_from([
        Step("tool.call.start", {**call, "message_id": f"{run_id}.0", "name": "search", "executor": "server"}),
        Step("tool.call.complete", {**call, "outcome": "ok", "duration_ms": 1}),
        Step("tool.call.error", {**call, "reason": "timeout", "message": "late", "retryable": True}),
        Step("tool.call.request", {**asked, "batch_id": "b", "kind": "approval", "prompt": "May I?", "args": {"n": 1}}),
        Step("tool.call.response", {"request_id": asked["request_id"], "decision": "approve"}),
        Step("tool.call.resolved", {**asked, "resolution": "approved", "edited": False}),
    ]))  # fmt: skip # a table


def _upload(data: st.DataObject, ids: list[str]) -> Step:
    kind = Kind.CONVERSATION
    upload_id = file_id_of(channel(kind), data.draw(st.sampled_from([*ids[-12:], "1-0"])))
    return data.draw(st.sampled_from([
        Step("file.upload.request", {"filename": "a.txt", "size": 3, "mime": "text/plain"}),
        Step("file.upload.complete", {"upload_id": upload_id}),
        Step("file.upload.cancel", {"upload_id": upload_id}),
        Step("file.upload.failed", {"upload_id": upload_id, "reason": "size", "message": "too large"}),
        Step("file.ready", {"file_id": upload_id, "filename": "a.txt", "size": 3}),
    ]))  # fmt: skip # a table


def _activity(data: st.DataObject, _ids: list[str]) -> Step:
    thing: JsonObject = {"type": "task", "id": data.draw(WORDS)}
    return Step("team.activity", {"verb": "closed", "object": thing, "summary": data.draw(WORDS), "importance": "low"})


def _notice(data: st.DataObject, ids: list[str]) -> Step:
    payload: JsonObject = {"kind": "mention", "title": data.draw(WORDS)}
    if data.draw(st.booleans()):
        payload["collapse_key"] = data.draw(st.sampled_from(["k1", "k2"]))
    if data.draw(st.booleans()):
        payload["expires_at"] = f"2026-11-22T17:11:{data.draw(st.integers(19, 40))}.000Z"
    read: JsonObject = {"ids": ids[-3:]} if data.draw(st.booleans()) else {"up_to": _known(data, ids[:1] or ["5-0"])}
    if "." in str(read.get("up_to", "")):
        read = {"up_to": event_id(2)}
    return data.draw(st.sampled_from([
        Step("team.notification", payload), Step("team.notification", payload), Step("team.notification.read", read),
    ]))  # fmt: skip # a table


def _document(data: st.DataObject, _ids: list[str]) -> Step:
    operation: JsonObject = {"op": data.draw(st.sampled_from(["add", "remove", "replace", "move", "copy", "test"]))}
    operation |= {"path": data.draw(POINTERS), "from": data.draw(POINTERS), "value": data.draw(JSON)}
    if data.draw(st.integers(0, 9)) == 0:
        return Step("document.update", {"update": "AAEC"})
    return Step("document.update", {"base_version": 0, "patch": [operation]})


def _passed_over(data: st.DataObject, _ids: list[str]) -> Step:
    return data.draw(st.sampled_from([
        Step("channel.presence", {"user": "alice", "status": "joined", "devices": 1}),
        Step("later.event", {"text": 7}), Step("message.status", {"message_id": "1-0"}),
    ]))  # fmt: skip # a table


def _rollout(data: st.DataObject, _ids: list[str]) -> Step:
    percent = st.floats(0, 100) | st.integers(0, 100)
    variants = st.lists(
        st.fixed_dictionaries({"name": st.text("ab-c", min_size=1, max_size=8), "percent": percent}), max_size=3
    )
    given_ = st.fixed_dictionaries({"note": WORDS}, optional={"websocket_percent": percent, "variants": variants})
    return Step("rollout.changed", data.draw(given_))


MAKERS: dict[Kind, tuple[Make, ...]] = {
    Kind.CONVERSATION: (
        _chat,
        _chat,
        _edit,
        _about,
        _about,
        _settings,
        _answer,
        _answer,
        _run,
        _tool,
        _upload,
        _passed_over,
    ),
    Kind.AGENT: (_answer, _run, _run, _tool, _upload, _passed_over),
    Kind.TEAM: (_activity, _upload, _passed_over),
    Kind.USER: (_notice, _passed_over),
    Kind.DOCUMENT: (_document, _passed_over),
    Kind.SYSTEM: (_rollout, _passed_over),
}


KINDS = [*Kind, Kind.CONVERSATION, Kind.CONVERSATION, Kind.CONVERSATION]
"""Conversations have most to go wrong."""


def entry(seq: int, step: Step, at: str | None = None) -> Entry:
    actor = b'{"kind":"user","id":"%b","client":"c-1"}' % USERS[seq % 3].encode()
    data = json.dumps(step.payload, ensure_ascii=False).encode()
    return Entry((at or event_id(seq)).encode(), seq, step.type.encode(), b"1", actor, data, b"{}")


@st.composite
def histories(draw: st.DrawFn) -> tuple[Kind, list[Entry]]:
    """A kind of channel, and events that could stand in one: every payload valid, most references to what is there."""
    kind, data, ids = draw(st.sampled_from(KINDS)), draw(st.data()), ["0-1"]
    entries = []
    for seq in range(1, draw(st.integers(0, 40)) + 1):
        step = draw(st.sampled_from(MAKERS[kind]))(data, ids)
        if draw(st.integers(0, 5)) == 0:
            step = Step(step.type, {**step.payload, "field_of_later": [1.5, None]})
        entries.append(entry(seq, step))
        if step.type in NAMED:
            ids.append(event_id(seq))
    return kind, entries


def folded(kind: Kind, entries: list[Entry]) -> ChannelState:
    state = ChannelState.begin(channel(kind))
    for one in entries:
        state.advance(one)
    return state


@pytest.fixture(autouse=True, params=[4096, 8], ids=["holds all", "forgets"])
def _held(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every law holds with the bounds of production, and with ones that these short histories reach."""
    monkeypatch.setattr(message_tree, "HELD_MAX", request.param)
    monkeypatch.setattr(message_tree, "RERUNS_MAX", 2)
    monkeypatch.setattr(teams, "UNREAD_MAX", request.param)


@LAWS
@given(histories(), st.integers(0, 40))
def test_a_snapshot_and_the_rest_is_the_same_as_everything(history: tuple[Kind, list[Entry]], k: int) -> None:
    """Wherever the snapshot was taken: equal bytes, shown and kept (docs/protocol.md#stream-rules, rule 13)."""
    kind, entries = history
    state = ChannelState.load(folded(kind, entries[:k]).dump())
    for one in entries[k:]:
        state.advance(one)

    assert folded(kind, entries).render() == state.render()
    assert folded(kind, entries).dump() == state.dump()


@LAWS
@given(histories())
def test_a_snapshot_after_each_event_changes_nothing(history: tuple[Kind, list[Entry]]) -> None:
    """A state that went through a snapshot at every step is, in all it holds, the state that never did."""
    kind, entries = history
    state, undisturbed = ChannelState.begin(channel(kind)), ChannelState.begin(channel(kind))
    for one in entries:
        state.advance(one)
        state = ChannelState.load(state.dump())
        undisturbed.advance(one)

        assert undisturbed.parts == state.parts
        assert undisturbed.render() == state.render()
    assert folded(kind, entries).dump() == state.dump()


@LAWS
@given(histories(), st.integers(0, 40))
def test_what_was_folded_before_is_ignored(history: tuple[Kind, list[Entry]], k: int) -> None:
    """Applying any stretch of the past again changes nothing."""
    kind, entries = history
    state = folded(kind, entries)
    before = state.dump()

    assert not any(state.advance(one) for one in entries[k:])
    assert before == state.dump()


@LAWS
@given(histories(), st.data())
def test_unknown_types_change_only_the_count(history: tuple[Kind, list[Entry]], data: st.DataObject) -> None:
    """Events this version does not know, anywhere, leave no trace but their number."""
    kind, entries = history
    mixed: list[Entry] = []
    for one in entries:
        if data.draw(st.booleans()):
            mixed.append(entry(len(mixed) + 1, Step("of.tomorrow", {"text": [1]}), at="1-0"))
        mixed.append(one._replace(seq=len(mixed) + 1))

    assert _without_count(folded(kind, entries)) == _without_count(folded(kind, mixed))
    assert json.loads(folded(kind, mixed).render())["count"] == len(mixed)


@LAWS
@given(histories(), st.data())
def test_a_broken_event_is_reported_and_leaves_no_trace(history: tuple[Kind, list[Entry]], data: st.DataObject) -> None:
    """A known type that is not what it promises raises, and the fold goes on as if it had not been there."""
    kind, entries = history
    state = ChannelState.begin(channel(kind))
    for one in entries:
        if one.type in _foldable(kind) and data.draw(st.booleans()):
            garbage = data.draw(st.sampled_from([b"{", b"[]", b'{"text":NaN}', b'{"a":1e999}', b"\xff", b"7", b""]))
            with pytest.raises(BrokenEvent) as raised:
                state.advance(one._replace(seq=state.seq + 1, data=garbage))
            assert raised.value.type == one.type.decode()
        state.advance(one._replace(seq=state.seq + 1))

    assert _without_count(folded(kind, entries)) == _without_count(state)


@LAWS
@given(histories(), st.data())
def test_a_field_of_another_type_is_broken_or_does_not_matter(
    history: tuple[Kind, list[Entry]], data: st.DataObject
) -> None:
    """Whatever one field holds, the event is folded or refused; nothing else is raised, a refused one changed nothing."""
    kind, entries = history
    state = ChannelState.begin(channel(kind))
    for one in entries:
        payload = json.loads(one.data)
        field = data.draw(st.sampled_from(sorted(payload)))
        payload[field] = data.draw(st.sampled_from([None, 7, 1.5, True, [], {}, "x", [7], {"x": {}}]))
        before = _without_count(state)
        if _is_broken(state, one._replace(data=json.dumps(payload).encode())):
            assert before == _without_count(state)
        assert ChannelState.load(state.dump()).dump() == state.dump()


@LAWS
@given(histories())
def test_what_is_shown_is_what_the_projections_declare(history: tuple[Kind, list[Entry]]) -> None:
    """The fields that its projections declare and no others, within their bounds, the branch without a break."""
    kind, entries = history
    rendered = folded(kind, entries).render()
    declared = {"metadata", "count"}.union(*(one.model.model_fields for one in PROJECTIONS[kind]))
    assert json.loads(rendered).keys() <= declared
    shown: Any = CHANNEL_STATE.model_validate_json(rendered)

    assert shown.count == len(entries)
    assert len(shown.messages or ()) <= 50
    assert len(shown.notifications or ()) <= min(100, shown.unread or 0)
    if kind is Kind.CONVERSATION and shown.messages:
        assert shown.active_leaf == shown.messages[-1].message_id
        parents = [message.parent_id for message in shown.messages[1:]]
        assert parents == [message.message_id for message in shown.messages[:-1]]


@LAWS
@given(histories())
def test_recorded_events_fold_like_entries(history: tuple[Kind, list[Entry]]) -> None:
    """Whoever has read an entry already folds the value and gets the same."""
    kind, entries = history
    state = ChannelState.begin(channel(kind))
    for one in entries:
        state.advance(recorded(one))

    assert folded(kind, entries).dump() == state.dump()


@LAWS
@given(histories())
def test_a_hole_is_refused_and_changes_nothing(history: tuple[Kind, list[Entry]]) -> None:
    """An event that is not the next one is no state's business, unless the state is new and the log was trimmed."""
    kind, entries = history
    state = folded(kind, entries)
    before = state.dump()
    far = entry(state.seq + 2, Step("chat.message", {"text": "x"}))

    if state.seq:
        with pytest.raises(EventsMissing):
            state.advance(far)
        assert before == state.dump()
    else:
        assert state.advance(far)


@LAWS
@given(st.data())
def test_every_payload_the_catalogue_allows_can_be_folded(data: st.DataObject) -> None:
    """A payload that validation lets in is never broken: each durable type, any of its valid payloads, each of its kinds."""
    row = data.draw(st.sampled_from([row for row in CATALOGUE.values() if row.is_stored]))
    payload = data.draw(payloads(row))
    for kind in row.kinds:
        state = ChannelState.begin(channel(kind))
        state.advance(entry(1, Step(row.name, payload)))

        assert CHANNEL_STATE.model_validate_json(state.render()).count == 1
        assert ChannelState.load(state.dump()).dump() == state.dump()


def _is_broken(state: ChannelState, event: Entry) -> bool:
    try:
        state.advance(event)
    except BrokenEvent:
        return True
    return False


def _without_count(state: ChannelState) -> bytes:
    kept = json.loads(state.dump())
    shown = json.loads(state.render())
    return json.dumps([kept["parts"], {**shown, "count": 0}]).encode()


def _foldable(kind: Kind) -> set[bytes]:
    return {name.encode() for part in ChannelState.begin(kind).parts for name in part.projection.handlers}


def test_the_payloads_here_are_those_of_recorded_events() -> None:
    """A reader gets names and values, with the actor and the time."""
    event = recorded(entry(3, Step("chat.message", {"text": "hi"})))

    assert event == Recorded(
        event_id(3), 3, "chat.message", 1, {"kind": "user", "id": "alice", "client": "c-1"}, {}, {"text": "hi"}
    )
    assert event.at_ms == START_MS + 2100
