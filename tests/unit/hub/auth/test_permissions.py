"""Grants: which pattern decides, and what it allows."""

from __future__ import annotations

import pytest

from hub.auth.permissions import ACTIONS, MalformedGrants, compile_grants
from hub.limits.rates import DEFAULT_RATES, UNMETERED
from streams.events import CATALOGUE
from streams.events.declaration import Action

INBOUND = sorted(event.name for event in CATALOGUE.values() if event.is_inbound)
ASK_NOTHING = {
    "connection.init", "connection.reconnect", "connection.heartbeat", "connection.refresh", "channel.unsubscribe", "agent.list",
}  # fmt: skip # a table
"""Events without an action. A new event is not in here, so it needs one."""
FAMILIES = {
    "channel": Action.READ, "chat": Action.WRITE, "tool": Action.INVOKE, "agent": Action.INVOKE, "file": Action.UPLOAD,
    "document": Action.WRITE, "team": Action.WRITE,
}  # fmt: skip # a table
OWN_ROWS = {
    "channel.presence": Action.WRITE, "chat.regenerate": Action.INVOKE, "chat.configure": Action.MANAGE,
    "channel.configure": Action.MANAGE,
    "team.notification": Action.MANAGE, "team.notification.read": Action.READ, "file.url": Action.READ,
}  # fmt: skip # a table
"""An event's own row wins over its family."""


@pytest.mark.parametrize(
    ("grants", "channel", "action", "expected"),
    [
        ({"conversation:42": ["read"]}, "conversation:42", "read", True),
        ({"conversation:42": ["read"]}, "conversation:42", "write", False),
        ({"conversation:42": ["read"]}, "conversation:421", "read", False),
        ({"conversation:*": ["read"]}, "conversation:42", "read", True),
        ({"conversation:*": ["read"]}, "team:42", "read", False),
        ({"conversation:4*": ["read"]}, "conversation:42", "read", True),
        ({"conversation:4*": ["read"]}, "conversation:4", "read", True),
        ({"*": ["read"]}, "document:x", "read", True),
        ({"*": ["*"]}, "document:x", "manage", True),
        ({"conversation:*": ["*"], "conversation:4*": ["read"]}, "conversation:42", "write", False),
        ({"conversation:4*": ["read"], "conversation:*": ["*"]}, "conversation:51", "write", True),
        ({"conversation:42*": ["write"], "conversation:42": ["read"]}, "conversation:42", "write", False),
        ({"conversation:*": ["read"], "conversation:secret": []}, "conversation:secret", "read", False),
        ({}, "conversation:42", "read", False),
        ({}, "user:alice", "read", True),
        ({}, "user:alice", "write", False),
        ({}, "user:bob", "read", False),
        ({"user:*": []}, "user:alice", "read", True),
        ({"user:alice": ["write"]}, "user:alice", "read", True),
        ({"user:alice": ["write"]}, "user:alice", "write", True),
    ],
)
def test_longest_pattern_decides_alone(grants: dict[str, list[str]], channel: str, action: str, expected: bool) -> None:
    """The longest match decides, exact before wildcard, and the own inbox is always readable; twice, since the answer is kept."""
    compiled = compile_grants(grants, "alice")

    assert compiled.allows(channel, action) is expected
    assert compiled.allows(channel, action) is expected


def test_star_means_every_action_of_the_catalogue() -> None:
    """`*` grants each action an event can ask for."""
    compiled = compile_grants({"team:blue": ["*"]}, "alice")

    assert all(compiled.allows("team:blue", action) for action in Action)
    assert {*Action, "*"} == ACTIONS


def test_kept_answers_stay_bounded_and_right() -> None:
    """A client that walks through ten thousand channels grows nothing and gets no other's answer."""
    compiled = compile_grants({"conversation:*": ["read"], "conversation:7": []}, "alice")

    answers = [compiled.allows(f"conversation:{n}", "read") for n in range(10_000)]

    assert answers.count(False) == 1
    assert not answers[7]
    assert len(compiled._remembered) <= 64


def test_covers_asks_for_a_grant_as_wide_as_the_pattern() -> None:
    """An admin call on `*` or `user:*` is not opened by a grant on one channel."""
    admin, narrow = compile_grants({"*": ["*"]}, "a"), compile_grants({"user:bob": ["*"], "user:b*": ["*"]}, "a")

    assert admin.covers("*", "*")
    assert admin.covers("user:*", "manage")
    assert not narrow.covers("user:*", "manage")
    assert not narrow.covers("*", "*")
    assert not compile_grants({"*": ["manage"]}, "a").covers("*", "*")


def test_malformed_grants_never_quote_the_value() -> None:
    """The refusal names the rule; what the token held stays in the token."""
    with pytest.raises(MalformedGrants) as caught:
        compile_grants({"conversation:*": ["s3cret"]}, "alice")

    assert "s3cret" not in str(caught.value)


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
