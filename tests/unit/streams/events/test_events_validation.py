"""The texts of a refusal, the limits that only show at their edge, and what is stored."""

from __future__ import annotations

import json
from typing import Any

import pytest

from streams.events import CATALOGUE
from streams.events.json_limits import DEPTH_MAX
from streams.events.validation import FieldProblem, InvalidPayload, validate
from support.payloads import broken_payloads, read, to_json

SECRET = "hunter2-hunter2"


def refusal(name: str, payload: dict[str, Any]) -> tuple[FieldProblem, ...]:
    with pytest.raises(InvalidPayload) as error:
        validate(CATALOGUE[name], payload)
    return error.value.problems


def stored(name: str, payload: dict[str, Any]) -> bytes:
    return validate(CATALOGUE[name], payload)[1]


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


def test_unset_fields_are_not_stored() -> None:
    """A default is not written into the log: what was not said stays unsaid."""
    assert stored("chat.edit", {"message_id": "1-0", "text": "a"}) == b'{"text":"a","message_id":"1-0"}'


def test_a_setting_can_be_reset_with_null() -> None:
    """In settings null means something, so it is stored; everywhere else it is refused."""
    assert stored("chat.configure", {"settings": {"title": None}}) == b'{"settings":{"title":null}}'
    assert refusal("chat.cancel", {"reason": None}) == (FieldProblem("reason", "must be a string"),)


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        ("chat.message", {"text": SECRET, SECRET: 1}),
        ("chat.message", {"text": "a", "metadata": {SECRET: 1}}),
        ("chat.message", {"text": "a", "parts": [{"type": SECRET}]}),
        ("chat.message", {"text": "a", "on_busy": SECRET}),
        ("chat.message", {"text": "a", "agent": SECRET + " "}),
        ("file.chunk", {"upload_id": "0" * 32, "offset": 0, "data": SECRET}),
        ("channel.history", {"from_time": SECRET}),
        ("connection.init", {"token": 7, "versions": [SECRET]}),
        ("connection.reconnect", {"versions": [1], "cursors": {SECRET: {"after": SECRET}}}),
        ("document.update", {"base_version": 0, "patch": [{"op": SECRET, SECRET: SECRET}]}),
    ],
)
def test_a_refusal_repeats_nothing_of_the_input(name: str, payload: dict[str, Any]) -> None:
    """Neither values nor names that the client made up come back in an error."""
    assert SECRET not in str(refusal(name, payload))


def test_every_fault_has_a_sentence_of_its_own() -> None:
    """No fault of any field ends in the sentence for what was not foreseen."""
    for row in CATALOGUE.values():
        for case in broken_payloads(row):
            assert "is not valid" not in str(refusal(row.name, case.payload)), (row.name, case.name)


def test_at_most_ten_problems_are_told() -> None:
    """A refusal does not grow with the input."""
    assert len(refusal("team.notification.read", {"ids": ["x"] * 100})) == 10


def test_unknown_fields_are_named_by_their_place() -> None:
    """An unknown field is reported at the object that holds it."""
    assert refusal("chat.message", {"text": "a", "x": 1, "y": 2}) == (FieldProblem("payload", "has an unknown field"),)


def test_text_limits_count_code_points() -> None:
    """A character outside the basic plane counts once, whatever JavaScript says."""
    assert stored("chat.message", {"text": "\U0001f600" * 32_768})
    assert refusal("chat.message", {"text": "\U0001f600" * 32_769})


def test_control_and_direction_characters_are_kept_in_text() -> None:
    """Text is stored as it was sent, but for NUL and lone surrogates; who shows it decides how."""
    text = "a\tb\nc\x07\u202egpj"
    assert json.loads(stored("chat.message", {"text": text})) == {"text": text}


@pytest.mark.parametrize(
    "filename", ["", "a/b", "a\\b", "a\x7f", "a\u0085", "a\u202eb", "a\u2067b", "a\u200fb", "a" * 256]
)
def test_a_file_name_hides_nothing(filename: str) -> None:
    """Slashes, control and direction characters are refused in names of files."""
    assert refusal("file.upload.request", {"filename": filename, "size": 1, "mime": "text/plain"})


@pytest.mark.parametrize("filename", ["übung.txt", "写真 1.jpg", ".profile", "..", "a" * 255])
def test_a_file_name_may_be_in_any_script(filename: str) -> None:
    """A name is only a name: object keys are the hub's own."""
    assert stored("file.upload.request", {"filename": filename, "size": 0, "mime": "text/plain"})


@pytest.mark.parametrize("link", ["/", "/a/b?c#d", "http://example.org", "https://example.org/a"])
def test_a_link_leads_to_the_web_or_a_path(link: str) -> None:
    """Links are http, https or a path."""
    assert stored("team.notification", {"kind": "k", "title": "t", "link": link})


@pytest.mark.parametrize(
    "link", ["", "a", "//x", "/\\x", "ftp://x", "javascript:x", "https://", "/a b", "https://x\ny"]
)
def test_other_links_are_refused(link: str) -> None:
    """No script, no other scheme, no host in disguise."""
    assert refusal("team.notification", {"kind": "k", "title": "t", "link": link})


def test_json_is_bounded_in_depth() -> None:
    """Sixteen containers within each other are the most."""
    assert stored("document.cursor", {"selection": nested(DEPTH_MAX)})
    assert refusal("document.cursor", {"selection": nested(DEPTH_MAX + 1)})
    assert refusal("document.cursor", {"selection": nested(900)})


def test_json_is_bounded_in_bytes() -> None:
    """The limit is of the serialized value: quotes and UTF-8 count."""
    assert stored("document.cursor", {"selection": "é" * 1023})
    assert refusal("document.cursor", {"selection": "é" * 1023 + "a"})


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**400, float("inf"), float("nan")])
def test_json_holds_only_numbers_that_others_can_read(number: float) -> None:
    """No integers beyond 64 bits, no infinities."""
    assert refusal("document.cursor", {"selection": {"a": [number]}})


@pytest.mark.parametrize("number", [2**63 - 1, -(2**63), 1.5, -0.0, 1e308])
def test_json_keeps_numbers(number: float) -> None:
    """A payload that fits is stored as it is."""
    assert json.loads(stored("document.cursor", {"selection": number})) == {"selection": number}


@pytest.mark.parametrize("value", ["\ud800", {"\udfff": 1}, ["a\udc00"]])
def test_json_holds_no_lone_surrogates(value: object) -> None:
    """Text that cannot be written as UTF-8 is refused, in values and in keys."""
    assert refusal("document.cursor", {"selection": value})


def test_json_may_be_null_where_null_is_a_value() -> None:
    """A client's tool may return nothing; a run must be given something."""
    assert stored("tool.call.response", {"request_id": "q", "result": None}) == b'{"request_id":"q","result":null}'
    assert refusal("agent.invoke", {"input": None}) == (FieldProblem("input", "must not be null"),)
    assert refusal("tool.call.response", {"request_id": "q", "edited_args": None})


def test_a_string_as_input_is_text() -> None:
    """`Text | Json`: a string has the limit of text, other values that of JSON."""
    assert stored("agent.invoke", {"input": "a" * 32_768})
    assert refusal("agent.invoke", {"input": "a" * 32_769})
    assert refusal("agent.invoke", {"input": "a\0"})
    assert refusal("agent.invoke", {"input": "a\udc00"})
    assert stored("agent.invoke", {"input": ["a" * 40_000]})


@pytest.mark.parametrize(
    "time", ["2027-01-01T00:00:00Z", "2027-01-01T00:00:00.123456Z", "2028-02-29T23:59:59.000+00:00"]
)
def test_times_are_rfc_3339_in_utc(time: str) -> None:
    """Any fraction is taken, and both ways to write UTC."""
    assert stored("channel.history", {"from_time": time})


@pytest.mark.parametrize(
    "time", ["2027-01-01", "2027-02-29T00:00:00Z", "2027-01-01T24:01:00Z", "2027-01-01T00:00:00+01:00"]
)
def test_other_times_are_refused(time: str) -> None:
    """No other zone, and no time that does not exist."""
    assert refusal("channel.history", {"from_time": time})


def test_numbers_are_not_guessed() -> None:
    """Strict: no integer from a float, a string or a truth value."""
    for value in (1.0, "1", True):
        assert refusal("channel.history", {"limit": value}) == (FieldProblem("limit", "must be an integer"),)


def test_a_bare_channel_is_a_subscription() -> None:
    """A name alone follows the channel live, with its state."""
    subscribe, _ = validate(CATALOGUE["channel.subscribe"], {"channels": ["conversation:42"]})
    assert subscribe.model_dump() == {"channels": [{
        "channel": "conversation:42", "after": "$", "seq": None, "epoch": None, "rewind": None, "state": True,
        "presence": False}]}  # fmt: skip # many arguments


def test_a_malformed_channel_is_not_the_whole_command() -> None:
    """A bad channel name among good ones is answered alone (4006), so the payload passes."""
    assert validate(CATALOGUE["channel.subscribe"], {"channels": ["nowhere:{", "conversation:42"]})


def test_the_handshake_passes_over_what_it_does_not_know() -> None:
    """A newer client may say more, at any depth of the handshake."""
    payload = {
        "versions": [1, 2],
        "new": 1,
        "client": {"name": "x", "new": 1},
        "channels": [{"channel": "a", "new": 1}],
    }
    handshake, _ = validate(CATALOGUE["connection.init"], payload)
    assert handshake.model_fields_set == {"versions", "client", "channels"}


def test_reading_passes_over_unknown_fields() -> None:
    """An event of a newer hub is readable; one broken in the known fields is not."""
    row = CATALOGUE["chat.message"]
    assert to_json(
        read(row, {"text": "a", "new": 1, "parts": [{"type": "mention", "kind": "user", "id": "b", "new": 1}]})
    )
    with pytest.raises(InvalidPayload):
        read(row, {"text": 7, "new": 1})


def test_a_state_delta_is_a_json_patch() -> None:
    """The value of a state_delta is checked like a document's patch."""
    output = {"run_id": "r", "index": 0, "kind": "state_delta"}
    assert stored("agent.output", {**output, "value": [{"op": "remove", "path": "/a"}]})
    assert refusal("agent.output", {**output, "value": [{"op": "remove", "path": "/a"}] * 201})
