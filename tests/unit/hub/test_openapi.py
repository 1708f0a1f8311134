"""The OpenAPI document says who may call what, with which body, and what an error looks like."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema_rs import Draft202012Validator

from hub.app import create_app
from hub.config import Settings
from hub.errors import HubError
from hub.http.openapi import openapi_document
from hub.http.problems import problem_document
from streams.events import CATALOGUE

SETTINGS = Settings.from_env({"REDIS_URL": "redis://127.0.0.1:1", "HUB_JWT_SECRET": "x" * 40})
DOCUMENT: dict[str, Any] = openapi_document(create_app(SETTINGS).openapi(), CATALOGUE)
APPEND = DOCUMENT["paths"]["/v1/channels/{channel}/events"]["post"]


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        yield from ((path, operation) for operation in methods.values())


def references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        yield from ([node["$ref"]] if isinstance(node.get("$ref"), str) else [])
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for item in node:
            yield from references(item)


def schema_of(reference: str) -> dict[str, Any]:
    """A schema that can be used alone: its references lead into the document's components, which come with it."""
    return {"$ref": reference, "components": DOCUMENT["components"]}


def test_every_reference_leads_somewhere() -> None:
    """No `$ref` of the document dangles."""
    for reference in set(references(DOCUMENT)):
        node: Any = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            node = node[step]
        assert node


def test_every_call_of_a_user_needs_a_token_and_tells_its_errors() -> None:
    """The scheme is in the document; FastAPI's own form of an error, which is never sent, is not."""
    schemes = DOCUMENT["components"]["securitySchemes"]
    for path, operation in operations():
        assert operation["responses"]["default"] == {"$ref": "#/components/responses/Problem"}
        assert "422" not in operation["responses"]
        named = [name for wanted in operation.get("security", ()) for name in wanted]
        assert set(named) <= schemes.keys()
        assert (named == ["token"]) == path.startswith("/v1/")


@pytest.mark.parametrize(
    "error", [HubError(4004, "wait", retry_after_ms=250), HubError(4018, "gone"), HubError(4030, "x")]
)
def test_problems_are_as_documented(error: HubError) -> None:
    """Real ones are valid by the schema, and have no field that it does not name."""
    document = problem_document(error)
    problem = DOCUMENT["components"]["schemas"]["Problem"]

    Draft202012Validator(problem).validate(document)
    assert document.keys() <= problem["properties"].keys()


def test_bodies_of_appends_have_examples_that_are_valid() -> None:
    """Each event type that can be appended is one form of the body, and its example fits exactly one."""
    body = APPEND["requestBody"]["content"]["application/json"]
    validator = Draft202012Validator({**body["schema"], "components": DOCUMENT["components"]})

    assert {"chat.message", "agent.invoke", "document.update"} <= body["examples"].keys()
    assert {form["title"] for form in body["schema"]["oneOf"]} == body["examples"].keys()
    for example in body["examples"].values():
        validator.validate(example["value"])
    assert not validator.is_valid({"type": "chat.message", "payload": {"txt": "hello"}})


def test_an_inbox_takes_notifications_only() -> None:
    """Only the types that the catalogue allows in that kind of channel may be sent to a user."""
    inbox = DOCUMENT["paths"]["/v1/users/{user}/events"]["post"]["requestBody"]["content"]["application/json"]

    assert "team.notification" in inbox["examples"]
    assert "chat.message" not in inbox["examples"]


def test_answers_have_the_schemas_of_the_socket() -> None:
    """The page, the state and the receipt of an append."""
    stored = APPEND["responses"]["201"]["content"]["application/json"]["schema"]["$ref"]
    receipt = {"id": "1-0", "seq": 1, "duplicate": False, "durability": "memory"}

    Draft202012Validator(schema_of(stored)).validate(receipt)
    for path in ("events", "state"):
        operation = DOCUMENT["paths"][f"/v1/channels/{{channel}}/{path}"]["get"]
        assert operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]
