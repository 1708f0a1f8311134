"""Rules of every row of the catalogue, whoever adds it."""

from __future__ import annotations

import pytest

from hub.errors import ERROR_CODES
from streams.envelope import Lane
from streams.events import CATALOGUE, EventType
from streams.events.declaration import Direction
from streams.events.schemas import schema_of

ROWS = [pytest.param(row, id=name) for name, row in sorted(CATALOGUE.items())]
WANTED = {
    "channel.configure", "chat.message", "chat.configure", "chat.branch", "chat.regenerate", "chat.cancel", "chat.edit",
    "agent.invoke", "agent.cancel", "agent.steer",
    "tool.call.response", "team.activity", "team.notification", "file.upload.complete", "file.upload.cancel",
    "file.upload.request",
}  # fmt: skip # a table
FAMILIES = {
    "ack",
    "operator",
    "rollout",
    "connection",
    "channel",
    "chat",
    "message",
    "conversation",
    "assistant",
    "tool",
    "file",
    "team",
    "agent",
    "document",
}
RATES = {
    "auth",
    "control",
    "subscribe",
    "history",
    "chat",
    "command",
    "agent",
    "live",
    "document",
    "cursor",
    "upload",
    "chunk",
}


def test_the_catalogue_cannot_be_changed() -> None:
    """Everything reads one catalogue; nothing adds to it at run time."""
    with pytest.raises(TypeError):
        CATALOGUE["chat.shout"] = CATALOGUE["chat.message"]  # type: ignore[index]  # what must not work


def test_four_commands_need_no_id() -> None:
    """docs/protocol.md#messages names the commands that may go without an id; no others may."""
    free = {name for name, row in CATALOGUE.items() if not row.is_id_required}
    assert free == {"connection.heartbeat", "chat.typing", "document.cursor", "file.upload.progress"}


def test_work_is_written_for_what_a_consumer_handles() -> None:
    """Only these types cost a work entry."""
    assert {name for name, row in CATALOGUE.items() if row.is_wanted} == WANTED


@pytest.mark.parametrize("row", ROWS)
def test_a_row_is_whole(row: EventType) -> None:
    """A command has a rate class and an answer; what the hub sends has neither; every code is in the table."""
    assert row.summary
    assert row.family in FAMILIES
    assert (row.rate in RATES) == row.is_inbound
    assert (row.reply is not None) == row.is_inbound
    assert set(row.errors) <= ERROR_CODES.keys()
    assert row.is_stored or not row.is_wanted
    assert row.kinds or row.lane is Lane.CONNECTION


@pytest.mark.parametrize("row", ROWS)
def test_a_reply_is_declared(row: EventType) -> None:
    """The reply a row names has a model: its own row's, or one given beside it."""
    if row.reply is None:
        return
    target = row.reply_model or CATALOGUE[row.reply].model
    assert row.reply_model or CATALOGUE[row.reply].direction is Direction.OUT
    assert set(row.results) <= target.model_fields.keys()


@pytest.mark.parametrize("row", ROWS)
def test_a_shared_live_event_says_whose_it_is(row: EventType) -> None:
    """A signal that came from a client is delivered with its user; a stored event has its actor for that."""
    if row.direction is Direction.BOTH and row.lane is Lane.LIVE:
        assert row.delivered is not None
        assert "user" in row.delivered.model_fields
    else:
        assert row.delivered is None


@pytest.mark.parametrize("row", ROWS)
def test_unknown_fields_are_refused(row: EventType) -> None:
    """All but the two handshakes refuse unknown fields."""
    is_closed = schema_of(row.model).get("additionalProperties") is False
    assert is_closed == (row.name not in ("connection.init", "connection.reconnect"))
