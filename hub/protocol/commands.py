"""A command: one message of one client, checked against the catalogue; and the outcomes a handler decides on. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from hub.auth.tokens import Principal
from hub.errors import HubError
from streams.channel import Channel
from streams.envelope import Actor, Appended, Draft, Guard
from streams.errors import GuardRefused
from streams.events import EventType, Payload


class Caller(NamedTuple):
    """The sender of a command.

    Attributes:
        client_id: None over HTTP.
        origin: the address they reached this node by, such as `https://hub.example`; URLs to the node itself begin with it.
    """

    principal: Principal
    client_id: str | None = None
    capabilities: frozenset[str] = frozenset()
    origin: str = ""

    @property
    def actor(self) -> Actor:
        """The caller as it is written beside the events it causes."""
        return Actor("user", self.principal.user, self.client_id)


class Command(NamedTuple):
    """A permitted, valid command.

    Attributes:
        payload: the model.
        data: the payload as JSON, as it is stored and sent.
        id: the client's id for it; the idempotency key where it is stored.
        channel: None only for types that have none.
    """

    event: EventType
    id: str | None
    channel: Channel | None
    payload: Payload
    data: bytes
    caller: Caller

    @property
    def place(self) -> Channel:
        """The channel of a type that has one."""
        if self.channel is None:
            raise ValueError(f"{self.event.name} has no channel")
        return self.channel

    def draft(
        self, data: bytes | None = None, guards: tuple[Guard, ...] = (), *, is_wanted: bool | None = None
    ) -> Draft:
        """The command as the event it is stored as.

        `data` is the payload where the hub adds to it; `is_wanted` overrides the type where it is known whether a reaction
        wants this very event.
        """
        event = self.event
        return Draft(
            channel=self.place,
            type=event.name,
            data=self.data if data is None else data,
            actor=self.caller.actor,
            lane=event.lane,
            v=event.version,
            command=self.id,
            guards=guards,
            is_wanted=event.is_wanted if is_wanted is None else is_wanted,
        )


class Append(NamedTuple):
    """Append `draft`, then answer.

    Attributes:
        results: added to the reply beside the event's ID and seq: a map, one made from the append's answer, or JSON without
            braces.
        refused: the client's error for a guard's refusal; by default 4021 with the field and its present value.
        passes_over: a guard's refusal is no error: what the command wants is so already, and nothing was appended.
    """

    draft: Draft
    results: Callable[[Appended], Mapping[str, Any]] | Mapping[str, Any] | bytes | None = None
    refused: Callable[[GuardRefused], HubError] | None = None
    passes_over: bool = False


class Reply(NamedTuple):
    """Answer at once; nothing is stored. `data` is the payload as JSON."""

    type: str
    data: bytes


class Nothing(NamedTuple):
    """No answer is due."""


Outcome = Append | Reply | Nothing
