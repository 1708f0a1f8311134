"""The AsyncAPI document is whole, and says what the catalogue says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from hub.errors import ERROR_CODES
from hub.protocol.schemas import asyncapi_document, errors_of, json_schemas
from projections.channel_state import PROJECTIONS, state_schema
from projections.live import LiveStateFields
from streams.events import CATALOGUE
from streams.events.schemas import catalogue_hash

DOCUMENT: dict[str, Any] = asyncapi_document(CATALOGUE, "wss://hub.example.org/ws")
SCHEMAS = json_schemas()


def references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        yield from ([node["$ref"]] if isinstance(node.get("$ref"), str) else [])
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for item in node:
            yield from references(item)


def resolved(reference: str) -> object:
    node: Any = DOCUMENT
    for step in reference.removeprefix("#/").split("/"):
        node = node[step]
    return node


def test_every_reference_leads_somewhere() -> None:
    """No `$ref` of the document dangles."""
    for reference in set(references(DOCUMENT)):
        assert resolved(reference) is not None


def test_the_document_has_the_parts_of_asyncapi_3() -> None:
    """The required parts, and the server that was named."""
    assert DOCUMENT["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= DOCUMENT["info"].keys()
    assert DOCUMENT["servers"]["hub"] == {"host": "hub.example.org", "protocol": "wss", "pathname": "/ws"}
    assert DOCUMENT["channels"]["socket"]["messages"].keys() == DOCUMENT["components"]["messages"].keys()


def test_operations_are_of_the_socket() -> None:
    """Each operation receives or sends messages of the channel, and a command is answered."""
    for key, operation in DOCUMENT["operations"].items():
        assert operation["action"] == key.partition("-")[0]
        assert operation["channel"] == {"$ref": "#/channels/socket"}
        for message in [*operation["messages"], *operation.get("reply", {}).get("messages", [])]:
            assert message["$ref"].startswith("#/channels/socket/messages/")
        assert ("reply" in operation) == (operation["action"] == "receive")


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_every_type_is_in_the_document(name: str) -> None:
    """A type that clients send can be received, a type that the hub sends can be sent."""
    row = CATALOGUE[name]
    assert (f"receive-{name}" in DOCUMENT["operations"]) == row.is_inbound
    assert (f"send-{name}" in DOCUMENT["operations"]) == (row.direction != "in")
    assert name in SCHEMAS


def test_every_message_has_an_example_of_its_type() -> None:
    """The type and the fields around the payload are those that the message's schema requires."""
    for message in DOCUMENT["components"]["messages"].values():
        (example,) = (one["payload"] for one in message["examples"])
        schema = message["payload"]
        assert example["type"] == schema["properties"]["type"]["const"]
        assert set(schema["required"]) <= example.keys() <= schema["properties"].keys()


def test_the_errors_are_the_table() -> None:
    """Every code with its name and the client's next step."""
    assert {row["code"]: row["name"] for row in DOCUMENT["x-errors"]} == {c: r.name for c, r in ERROR_CODES.items()}


def test_errors_of_a_command_are_complete() -> None:
    """Those of every command, of a channel, of storing, and of its row."""
    assert errors_of(CATALOGUE["chat.typing"]) == (4003, 4004, 4005, 4006, 4011, 4013, 4030)
    assert errors_of(CATALOGUE["chat.cancel"]) == (4003, 4004, 4005, 4006, 4009, 4011, 4013, 4018, 4021, 4030)


def test_a_stored_event_has_its_place_and_a_signal_has_none() -> None:
    """`id` and `seq` are on durable events only."""
    messages = DOCUMENT["components"]["messages"]
    assert {"id", "seq"} <= set(messages["chat.message-event"]["payload"]["required"])
    assert not {"id", "seq"} & messages["chat.typing-signal"]["payload"]["properties"].keys()
    assert messages["chat.typing-signal"]["payload"]["properties"]["payload"] == {
        "$ref": "#/components/schemas/chat.typing-delivered"
    }


def test_the_hash_follows_the_schemas() -> None:
    """The hash is of the catalogue and the state; another version is another hash, words do not change it."""
    state = state_schema()
    assert DOCUMENT["x-schema-sha256"] == catalogue_hash(CATALOGUE, state)

    message, subscribed = CATALOGUE["chat.message"], CATALOGUE["channel.subscribed"]
    few = {row.name: row for row in (message, subscribed)}
    present = catalogue_hash(few, state)
    assert present != catalogue_hash({**few, message.name: replace(message, version=2)}, state)
    assert present != catalogue_hash(few, {**state, "ChannelState": {"type": "object"}})
    assert present == catalogue_hash({**few, message.name: replace(message, summary="Else.")}, state)


def test_the_state_is_published_as_the_projections_declare_it() -> None:
    """Each field a projection names is in the schema of the two replies that carry a state, and no other is let in."""
    declared = {"metadata", "count", "truncated", "custom"}.union(
        *(one.model.model_fields for several in PROJECTIONS.values() for one in several)
    )
    for name in ("channel.subscribed", "channel.state-reply"):
        state: Any = DOCUMENT["components"]["schemas"][name]["$defs"]["ChannelState"]
        assert state["properties"].keys() == declared | LiveStateFields.model_fields.keys()
        assert state["additionalProperties"] is False
        assert state["required"] == ["metadata", "count"]


def test_what_is_not_served_is_not_offered() -> None:
    """A type that is declared for later is in no part of the document."""
    message, branch = CATALOGUE["chat.message"], CATALOGUE["chat.branch"]
    text = json.dumps(asyncapi_document({row.name: row for row in (message, replace(branch, is_served=False))}))
    assert message.name in text
    assert branch.name not in text


def test_the_document_is_json() -> None:
    """It can be served as it is."""
    assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT
