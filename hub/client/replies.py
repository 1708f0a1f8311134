"""What commands are answered with. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from hub.client.items import Event, Payload


@dataclass(frozen=True, slots=True)
class Stored:
    """The receipt of a stored event: it can be read back by anyone from now on.

    Attributes:
        duplicate: the same command was stored before; `id` and `seq` are those of the first time.
        durability: `memory`, `fsync` or `replicated`.
        payload: the whole reply, with what its type adds (`run_id`, `disposition`, `version` …).
    """

    id: str
    seq: int
    duplicate: bool
    durability: str
    payload: Payload


@dataclass(frozen=True, slots=True)
class Reply:
    """The one answer to a command, when it is not an error. `raw` is its frame's own JSON."""

    type: str
    re: str
    channel: str | None
    payload: Payload
    raw: bytes = field(repr=False)

    @property
    def stored(self) -> Stored:
        """The receipt in this reply.

        Raises:
            ValueError: the command stores nothing, so there is none.
        """
        found = self.payload
        if "seq" not in found:
            raise ValueError(f"{self.type} answers a command that stores nothing; read .payload")
        return Stored(found["id"], found["seq"], found["duplicate"], found["durability"], found)


@dataclass(frozen=True, slots=True)
class History:
    """A page of the past. `next` is the `after` (or `before`) of the page that follows, None at the end."""

    events: tuple[Event, ...]
    next: str | None
    gap: Payload | None


@dataclass(frozen=True, slots=True)
class ChannelState:
    """A channel's state as of `state_at`, the seq of the last event folded into it."""

    channel: str
    epoch: str | None
    state: Payload
    state_at: int
