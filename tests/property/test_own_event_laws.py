"""Own events: any JSON object is stored as it was meant; a mismatch is named and not repeated; projections obey the law."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.torture import fold as torture_fold
from projections.channel_state import ChannelState
from projections.errors import BrokenEvent
from projections.own import OwnProjections, projects
from projections.recorded import Recorded, recorded
from streams.channel import Kind, parse_channel
from streams.envelope import Entry
from streams.events.custom import ANY_OWN, CUSTOM_BYTES_MAX, OwnEvents, PayloadSchema, is_own_name
from streams.events.validation import InvalidPayload, appendable, validate
from streams.json_bytes import JsonObject

Json = dict[str, Any]
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)  # fmt: skip # one line a kind
KEYS = TEXT | st.sampled_from(
    ["model_fields", "model_config", "__class__", "__pydantic_extra__", "self", "_", "copy", "$ref"]
)
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=6)
NAME = "custom.order_placed"
EVENT = ANY_OWN.find(NAME)
assert EVENT is not None


def same(a: object, b: object) -> bool:
    """Equal as JSON: `1`, `1.0` and `true` are three things, and an object's keys have an order."""
    return type(a) is type(b) and json.dumps(a) == json.dumps(b)


@given(OBJECTS)
def test_any_object_is_stored_as_it_was_meant(payload: Json) -> None:
    """By the way of a client, and by that of the hub itself."""
    assert EVENT is not None
    _, data = validate(EVENT, payload)
    told = appendable(parse_channel("t", "team:1"), NAME, payload).data

    assert same(json.loads(data), payload)
    assert same(json.loads(told), payload)


@given(OBJECTS, st.sampled_from(list(Kind)))
def test_it_changes_no_state_but_the_count(payload: Json, kind: Kind) -> None:
    """Of whatever kind of channel, and the snapshot is the same for those that know no own events."""
    state, before = ChannelState.begin(kind), ChannelState.begin(kind)
    state.advance(entry(payload))

    shown, empty = json.loads(state.render()), json.loads(before.render())
    assert shown == empty | {"count": 1}
    assert json.loads(state.dump())["parts"] == json.loads(before.dump())["parts"]


def entry(payload: Json, seq: int = 1, type_: str = NAME) -> Entry:
    """A stored event."""
    data = json.dumps(payload).encode()
    return Entry(f"1-{seq}".encode(), seq, type_.encode(), b"1", b'{"kind":"user","id":"a"}', data, b"{}")


@pytest.mark.parametrize(
    "name", ["custom", "custom.", "custom.A", "custom.a-b", "custom.1a", "custom.a.b.c.d", "custom.*", "chat.message", "custom.a\n"]
)  # fmt: skip # a table
def test_other_names_are_no_own_events(name: str) -> None:
    """The grammar is narrow: names are in keys of metrics, in files and in documents."""
    assert not is_own_name(name)
    assert ANY_OWN.find(name) is None


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        ({"n": 2**63}, "integers of 64 bits"),
        ({"n": float("inf")}, "finite"),
        ({"\ud800": 1}, "UTF-8"),
        (json.loads('{"a":' * 17 + "1" + "}" * 17), "nested at most 16 deep"),
    ],
    ids=["integer", "infinity", "surrogate", "depth"],
)
def test_what_no_reader_could_read_is_refused(payload: Json, problem: str) -> None:
    """As everywhere in the catalogue."""
    assert EVENT is not None
    with pytest.raises(InvalidPayload, match=problem):
        validate(EVENT, payload)


def test_the_size_is_that_of_the_stored_json() -> None:
    """64 KiB, and not one byte more."""
    room = CUSTOM_BYTES_MAX - len('{"a":""}')
    channel = parse_channel("t", "team:1")

    assert len(appendable(channel, NAME, {"a": "x" * room}).data) == CUSTOM_BYTES_MAX
    with pytest.raises(InvalidPayload, match="at most 65536 bytes"):
        appendable(channel, NAME, {"a": "x" * (room + 1)})


# Schemas

ITEM = {
    "type": "object",
    "properties": {"sku": {"type": "string", "pattern": "^[a-z]+$"}, "qty": {"type": "integer", "minimum": 1}},
    "required": ["sku", "qty"],
    "additionalProperties": False,
}
SCHEMA: Json = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$id": "https://shop.example/order",
    "type": "object",
    "properties": {
        "items": {"type": "array", "items": {"$ref": "#/$defs/item"}, "minItems": 1},
        "at": {"type": "string", "format": "date-time"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
    },
    "required": ["items"],
    "$defs": {"item": ITEM},
}
BROKEN: dict[str, tuple[Json, str]] = {
    "missing": ({}, "items is required"),
    "missing inside": ({"items": [{"sku": "a", "qty": 1}, {"sku": "a"}]}, "items.1.qty is required"),
    "type": ({"items": [{"sku": "a", "qty": "SECRET"}]}, 'items.0.qty must match `type: "integer"` of its schema'),
    "bound": ({"items": [{"sku": "a", "qty": 0}]}, "items.0.qty must match `minimum: 1` of its schema"),
    "pattern": ({"items": [{"sku": "SECRET", "qty": 1}]}, 'items.0.sku must match `pattern: "^[a-z]+$"` of its schema'),
    "format": ({"items": [{"sku": "a", "qty": 1}], "at": "SECRET"}, 'at must match `format: "date-time"` of its schema'),
    "unknown": ({"items": [{"sku": "a", "qty": 1, "SECRET": 1}]}, "items.0 has an unknown field"),
    "the client's own key": (
        {"items": [{"sku": "a", "qty": 1}], "labels": {"SECRET": 1}}, 'labels must match `type: "string"` of its schema',
    ),
    "no object at all is needed": ({"items": 1}, 'items must match `type: "array"` of its schema'),
}  # fmt: skip # a table


@pytest.mark.parametrize("case", BROKEN)
def test_a_mismatch_is_named_by_its_path_and_never_repeated(case: str) -> None:
    """The schema's words, and nothing of the payload."""
    payload, sentence = BROKEN[case]
    problems = [f"{path} {problem}" for path, problem in PayloadSchema(SCHEMA).problems(payload)]

    assert problems == [sentence]
    assert "SECRET" not in sentence


@pytest.mark.parametrize(
    "document",
    [
        {"$ref": "http://127.0.0.1:9/x"}, {"$ref": "file:///etc/passwd"}, {"properties": {"a": {"$ref": "other.json"}}},
        {"$ref": "#/$defs/none"}, {"type": "nonsense"}, {"pattern": "(?=a)b"}, {"minimum": "1"},
    ],
)  # fmt: skip # a table
def test_what_is_no_schema_or_reaches_out_is_refused(document: Json) -> None:
    """Nothing is fetched, and no pattern may take more than linear time."""
    with pytest.raises(ValueError, match=r"must begin with|is not a JSON Schema"):
        PayloadSchema(document)


def test_with_schemas_only_their_types_are_known() -> None:
    """A word mistyped is refused, and not stored for ever."""
    own = OwnEvents({})

    assert own.find(NAME) is None
    with pytest.raises(InvalidPayload, match="is not in the catalogue"):
        appendable(parse_channel("t", "team:1"), NAME, {}, own)


# Custom projections

STEPS = st.lists(st.tuples(st.sampled_from([NAME, "custom.other", "chat.message"]), OBJECTS), max_size=12)


@projects(NAME, "chat.message", version=3)
def tally(state: JsonObject, event: Recorded) -> JsonObject:
    """Counts by type, changes what it was given, and fails at every third event."""
    count = state.get("count", 0)
    assert isinstance(count, int)
    state["count"] = count + 1
    state["last"] = event.payload
    if event.seq % 3 == 0:
        raise LookupError
    return {**state, "types": event.type}


OWN = OwnProjections({"tally": tally})


def folded(state: ChannelState, entries: list[Entry]) -> ChannelState:
    """The state after these, the broken ones skipped."""
    for one in entries:
        with contextlib.suppress(BrokenEvent):
            state.advance(one)
    return state


@given(STEPS, st.integers(0, 12))
def test_an_own_projection_obeys_the_law_of_folds(steps: list[tuple[str, Json]], k: int) -> None:
    """From a snapshot with it, and from one without it, which is made up for from the log; what is built in stays as it is."""
    entries = [entry(payload, seq, type_) for seq, (type_, payload) in enumerate(steps, 1)]
    whole = folded(ChannelState.begin(Kind.CONVERSATION, OWN), entries)
    plain = folded(ChannelState.begin(Kind.CONVERSATION), entries)
    resumed = folded(
        ChannelState.load(folded(ChannelState.begin(Kind.CONVERSATION, OWN), entries[:k]).dump(), OWN), entries[k:]
    )
    late = ChannelState.load(folded(ChannelState.begin(Kind.CONVERSATION), entries[:k]).dump(), OWN)
    assert late.is_own_behind
    for one in entries[:k]:
        with contextlib.suppress(BrokenEvent):
            late.advance_own(one)
    late.own_caught_up()
    late = folded(late, entries[k:])

    assert whole.render() == resumed.render() == late.render()
    shown = json.loads(whole.render())
    assert {name: value for name, value in shown.items() if name != "custom"} == json.loads(plain.render())
    good = [one for one in entries if one.type != b"custom.other" and one.seq % 3]
    assert shown["custom"]["tally"].get("count", 0) == len(good)
    if good:
        assert shown["custom"]["tally"]["last"] == recorded(good[-1]).payload


def test_own_states_have_a_bound() -> None:
    """An event that would need more changes nothing, and the next one counts again."""

    @projects(NAME)
    def keep(state: JsonObject, event: Recorded) -> JsonObject:
        return {**state, str(event.seq): event.payload["text"]}

    @projects(NAME)
    def nothing(state: JsonObject, event: Recorded) -> JsonObject:
        return None  # type: ignore[return-value]  # what a function of somebody else may do

    state = ChannelState.begin(Kind.TEAM, OwnProjections({"keep": keep}))
    folded_text = ["x" * 60_000, "y" * 60_000, "z"]
    for seq, text in enumerate(folded_text, 1):
        if seq == 2:
            with pytest.raises(Exception, match="65536 bytes"):
                state.advance(entry({"text": text}, seq))
        else:
            state.advance(entry({"text": text}, seq))
    with pytest.raises(Exception, match="returned no object"):
        ChannelState.begin(Kind.TEAM, OwnProjections({"nothing": nothing})).advance(entry({}))

    assert set(json.loads(state.render())["custom"]["keep"]) == {"1", "3"}


# The fold of the torture, which shares no code with ours


@given(st.lists(st.tuples(st.booleans(), OBJECTS), max_size=12))
def test_the_torture_folds_alike(steps: list[tuple[bool, Json]]) -> None:
    """Messages with own events between them: both folds show the same conversation."""
    entries = [
        entry(payload, seq) if is_own else entry({"text": f"m{seq}"}, seq, "chat.message")
        for seq, (is_own, payload) in enumerate(steps, 1)
    ]
    shown = json.loads(folded(ChannelState.begin(Kind.CONVERSATION), entries).render())
    theirs = torture_fold.conversation([json.loads(one.wire(b"conversation:1")) for one in entries])

    assert {name: shown[name] for name in theirs if name != "messages"} == {
        name: value for name, value in theirs.items() if name != "messages"
    }
    assert [(one["message_id"], one["text"]) for one in shown["messages"]] == [
        (one["message_id"], one["text"]) for one in theirs["messages"]
    ]


def test_a_name_that_is_no_type_is_not_kept() -> None:
    """A client may send a type of a megabyte, and many of them."""
    name = "x" * 1_000_000
    held = sys.getrefcount(name)

    assert ANY_OWN.find(name) is None
    assert sys.getrefcount(name) == held
