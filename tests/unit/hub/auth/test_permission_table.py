"""The permission table is the catalogue: every event a client may send has a rule, and it is PROTOCOL 5's."""

from __future__ import annotations

import pytest

from hub.auth.permissions import compile_grants
from hub.limits.rates import DEFAULT_RATES, UNMETERED
from streams.events import CATALOGUE
from streams.events.declaration import Action

INBOUND = sorted(event.name for event in CATALOGUE.values() if event.is_inbound)

ASK_NOTHING = {
    "connection.init", "connection.reconnect", "connection.heartbeat", "connection.refresh", "channel.unsubscribe", "agent.list",
}  # fmt: skip
"""Events without an action. A new event is not in here, so it needs one."""

FAMILIES = {
    "channel": Action.READ, "chat": Action.WRITE, "tool": Action.INVOKE, "agent": Action.INVOKE, "file": Action.UPLOAD,
    "document": Action.WRITE, "team": Action.WRITE,
}  # fmt: skip
OWN_ROWS = {
    "channel.presence": Action.WRITE, "chat.regenerate": Action.INVOKE, "chat.configure": Action.MANAGE,
    "team.notification": Action.MANAGE, "team.notification.read": Action.READ, "file.url": Action.READ,
}  # fmt: skip
"""PROTOCOL 5: an event's own row wins over its family."""


@pytest.mark.parametrize("name", INBOUND)
def test_every_event_of_a_client_has_the_action_of_its_row(name: str) -> None:
    """An event without a rule, or with another than written, fails here."""
    expected = None if name in ASK_NOTHING else OWN_ROWS.get(name, FAMILIES[name.partition(".")[0]])

    assert CATALOGUE[name].action == expected


@pytest.mark.parametrize("name", INBOUND)
def test_every_event_of_a_client_has_a_rate(name: str) -> None:
    """Nothing a client sends is without limit."""
    assert CATALOGUE[name].rate in DEFAULT_RATES.keys() | UNMETERED


@pytest.mark.parametrize("name", [name for name in INBOUND if name not in ASK_NOTHING])
@pytest.mark.parametrize("granted", Action)
def test_only_its_own_action_opens_an_event(name: str, granted: Action) -> None:
    """Catalogue by actions: a grant of any other action does not allow the event; `*` does."""
    needed = CATALOGUE[name].action
    assert needed is not None
    grants = compile_grants({"team:blue": [granted.value], "team:red": ["*"]}, "alice")

    assert grants.allows("team:blue", needed) == (granted is needed)
    assert grants.allows("team:red", needed)
    assert not grants.allows("team:green", needed)
