"""Sealed payloads and the rule for them."""

from __future__ import annotations

import pytest

from projections.channel_state import ChannelState
from streams.channel import Kind, parse_channel
from streams.envelope import Entry
from streams.events import CATALOGUE
from streams.json_bytes import parse
from streams.sealing.sealed import (
    SEALABLE,
    SealBroken,
    is_sealed,
    key_ids,
    key_of,
    parse_seal_rule,
    place_of,
    seal,
    unseal,
)

ONE, OTHER, NONCE = bytes(32), bytes(range(32)), bytes(12)
PLACE = place_of(b"acme:conversation:a", b"chat.message", b'{"kind":"user","id":"al"}')
DATA = '{"text":"grüezi"}'.encode()


def test_a_payload_comes_back_and_is_json_meanwhile() -> None:
    """For one key, and for several."""
    for ids, keys in ((["a1"], [ONE]), (["a1", "b2"], [ONE, OTHER])):
        sealed = seal(DATA, ids, key_of(keys), PLACE, NONCE)
        assert isinstance(parse(sealed), str)
        assert (is_sealed(sealed), is_sealed(DATA), key_ids(sealed)) == (True, False, tuple(ids))
        assert unseal(sealed, key_of(keys), PLACE) == DATA


@pytest.mark.parametrize(
    ("sealed", "key", "place"),
    [
        (seal(DATA, ["a1"], ONE, PLACE, NONCE), OTHER, PLACE),
        (seal(DATA, ["a1"], ONE, PLACE, NONCE), ONE, place_of(b"acme:conversation:b", b"chat.message", b"{}")),
        (seal(DATA, ["a1"], ONE, PLACE, NONCE)[:-2] + b'"', ONE, PLACE),
        (seal(DATA, ["a1", "b2"], key_of([ONE, OTHER]), PLACE, NONCE), ONE, PLACE),
        (b'"sealed1:a1:"', ONE, PLACE),
        (b'"sealed1"', ONE, PLACE),
    ],
)
def test_nothing_else_opens(sealed: bytes, key: bytes, place: bytes) -> None:
    """Another key, another place, another byte, one key of two."""
    with pytest.raises(SealBroken):
        unseal(sealed, key, place)


@pytest.mark.parametrize("data", [b'"sealed2:a:b"', b'"x"', b'"sealed1:"'])
def test_a_form_of_another_version_is_refused(data: bytes) -> None:
    """It is no payload, and not one of ours."""
    with pytest.raises(SealBroken):
        key_ids(data)


def test_a_rule_names_tenants_and_kinds() -> None:
    """`*` is every tenant; documents are refused."""
    rule = parse_seal_rule("acme:conversation, *:team")

    named = ("acme conversation:a", "beta conversation:a", "beta team:a", "acme user:a")
    assert [rule.seals(parse_channel(*text.split())) for text in named] == [True, False, True, False]
    assert (rule.is_for("beta"), parse_seal_rule("acme:team").is_for("beta")) == (True, False)
    assert str(rule) == "*:team,acme:conversation"
    assert rule.missing("acme:team,acme:conversation,acme:user,*:conversation") == ["acme:user", "*:conversation"]
    for wrong in ("acme", "acme:room", ":team", "acme:document", "acme:system"):
        with pytest.raises(ValueError, match=r"must have the form|cannot be sealed"):
            parse_seal_rule(wrong)


def test_types_of_people_are_sealed_and_those_that_keep_the_order_of_things_are_not() -> None:
    """A deletion that is erased would bring back what was deleted; settings and questions are the channel's."""
    sealed = {name for name, row in CATALOGUE.items() if row.personal is not None}

    assert sealed == {
        "chat.message", "chat.edit", "chat.react", "chat.feedback", "chat.cancel", "chat.regenerate",
        "agent.invoke", "agent.cancel", "agent.steer", "tool.call.response", "team.activity", "team.notification",
    }  # fmt: skip # a table
    assert all(row.is_stored and row.kinds & SEALABLE for name, row in CATALOGUE.items() if name in sealed)


def test_a_state_shows_the_place_of_an_erased_message_and_leaves_out_the_rest() -> None:
    """Other types change nothing when they are erased, and are no broken events."""
    state = ChannelState.begin(Kind.CONVERSATION)
    for seq, (type_, is_erased) in enumerate((("chat.message", True), ("chat.edit", True), ("chat.message", False)), 1):
        data = b"{}" if is_erased else b'{"text":"hi"}'
        actor = b'{"kind":"user","id":"al"}'
        state.advance(Entry(b"%d-0" % seq, seq, type_.encode(), b"1", actor, data, b"{}", ("k",), is_erased))
    shown = parse(state.render())

    assert isinstance(shown, dict)
    facts = [(one["message_id"], one["text"], one.get("erased")) for one in shown["messages"]]  # type: ignore[index,union-attr,call-overload]
    assert facts == [("1-0", "", True), ("3-0", "hi", None)]
    assert parse(ChannelState.load(state.dump()).render()) == shown
