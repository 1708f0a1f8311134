"""Commands: messages of clients, checked against the catalogue, and the outcomes that a handler decides on. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from hub.auth.tokens import Principal
from hub.errors import HubError
from streams.channel import Channel
from streams.envelope import Actor, Appended, Draft, Guard
from streams.errors import GuardRefused
from streams.events import EventType, Payload
from streams.log_context import user_hash

LEAF: Final = "leaf"
"""The capability of a client that wants the leaf of each event that it stores."""


class Caller(NamedTuple):
    """The sender of a command.

    Attributes:
        client_id: None over HTTP.
        origin: the origin under which the caller reached this node, such as `https://hub.example`; URLs to the node start with
            it.
        variant: the name of the user's variant; empty if there is none.
    """

    principal: Principal
    client_id: str | None = None
    capabilities: frozenset[str] = frozenset()
    origin: str = ""
    variant: str = ""

    def log_fields(self) -> Mapping[str, object]:
        """Returns the fields of a log line about this caller."""
        tenant, user = self.principal.tenant, self.principal.user
        return {"tenant": tenant, "user": user_hash(tenant, user), "variant": self.variant}

    @property
    def actor(self) -> Actor:
        """The caller as recorded in the events it causes."""
        return Actor("user", self.principal.user, self.client_id)


class Command(NamedTuple):
    """A permitted, valid command.

    Attributes:
        payload: the payload as a model.
        data: the payload as JSON, as stored and sent.
        id: the client's id for the command; the idempotency key if it is stored.
        channel: None only for types that have none.
        traceparent: the trace that the client continues in it.
    """

    event: EventType
    id: str | None
    channel: Channel | None
    payload: Payload
    data: bytes
    caller: Caller
    traceparent: str | None = None

    def log_fields(self) -> Mapping[str, object]:
        """Returns the fields of a log line about this command."""
        own = {
            "command": self.id,
            "type": self.event.name,
            "channel": self.channel.wire if self.channel is not None else "",
        }
        return {**self.caller.log_fields(), **own} if self.caller.principal is not None else own  # None in a handshake

    @property
    def place(self) -> Channel:
        """The channel, for a type that has one."""
        if self.channel is None:
            raise ValueError(f"{self.event.name} has no channel")
        return self.channel

    def draft(
        self, data: bytes | None = None, guards: tuple[Guard, ...] = (), *, is_wanted: bool | None = None
    ) -> Draft:
        """Returns the event to store for this command.

        Args:
            data: the payload, where the hub adds to it.
            guards: conditions for the append script.
            is_wanted: whether a consumer needs this event, where that is known better than from its type.
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
            traceparent=self.traceparent,
            wants_leaf=LEAF in self.caller.capabilities,
        )


class Append(NamedTuple):
    """Append `draft`, then reply.

    Attributes:
        results: fields for the reply besides the event's id and seq: a map, a function of the append's result, or JSON
            without braces.
        refused: converts a guard's refusal to the client's error; by default 4021 with the field and its current value.
        passes_over: True if a guard's refusal means that nothing needs to change, which is no error.
    """

    draft: Draft
    results: Callable[[Appended], Mapping[str, Any]] | Mapping[str, Any] | bytes | None = None
    refused: Callable[[GuardRefused], HubError] | None = None
    passes_over: bool = False


class Reply(NamedTuple):
    """Reply at once; nothing is stored. `data` is the payload as JSON."""

    type: str
    data: bytes


class Nothing(NamedTuple):
    """Send no reply."""


Outcome = Append | Reply | Nothing
