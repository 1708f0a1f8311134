"""The resolution of an answer: denied by default."""

from __future__ import annotations

from typing import Literal

import pytest

from consumers.handlers.runs import resolution
from consumers.handlers.teams import mentioned
from streams.json_bytes import JsonObject
from streams.records.runs import RequestView

Kind = Literal["approval", "confirmation", "input", "client_tool"]


@pytest.mark.parametrize(
    ("kind", "response", "expected"),
    [
        ("approval", {"decision": "approve"}, "approved"),
        ("approval", {"decision": "deny"}, "denied"),
        ("approval", {}, "denied"),
        ("approval", {"result": True}, "denied"),
        ("confirmation", {"decision": "approve"}, "approved"),
        ("confirmation", {"decision": "Approve"}, "denied"),
        ("input", {"result": ""}, "answered"),
        ("input", {"result": None}, "answered"),
        ("input", {"decision": "approve"}, "denied"),
        ("input", {"result": "x", "decision": "deny"}, "denied"),
        ("client_tool", {"error": "no"}, "answered"),
        ("client_tool", {}, "denied"),
    ],
)
def test_only_a_clear_yes_is_a_yes(kind: Kind, response: JsonObject, expected: str) -> None:
    """An approval needs the word; an input or a client's tool needs a result or an error."""
    assert resolution(RequestView("q", "r", "answered", kind), response) == expected


def test_people_are_mentioned_once_and_agents_never() -> None:
    """Parts that are not mentions of people are passed over."""
    parts: list[object] = [
        {"type": "mention", "kind": "user", "id": "bob"}, {"type": "mention", "kind": "agent", "id": "demo"},
        {"type": "file", "file_id": "f"}, {"type": "mention", "kind": "user", "id": "bob"},
        {"type": "mention", "kind": "user", "id": "amy"},
    ]  # fmt: skip # a table

    assert mentioned(parts) == ["bob", "amy"]  # type: ignore[arg-type]  # JSON
    assert mentioned(None) == []
