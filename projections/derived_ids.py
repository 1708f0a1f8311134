"""IDs that follow from an event, so that everyone who needs one derives the same without asking. Pure.

EVENTS 2: a file's ID comes from the tenant, channel and ID of its `file.upload.request`; a run's, when its invoker chose
none, from those of its `agent.invoke`, `chat.message`, `chat.regenerate` or `chat.edit`.
"""

from __future__ import annotations

from hashlib import sha256

from streams.channel import Channel

_DIGITS = 32
"""128 bits in hex: what `FileId` prescribes, and plenty for a run."""


def file_id(channel: Channel, event_id: str) -> str:
    """The `upload_id`, later `file_id`, of the `file.upload.request` with this ID."""
    return _digest("file", channel, event_id)


def run_id(channel: Channel, event_id: str) -> str:
    """The run begun by the event with this ID, when its payload names no `run_id`."""
    return _digest("run", channel, event_id)


def _digest(purpose: str, channel: Channel, event_id: str) -> str:
    return sha256(f"{purpose}:{channel.path}:{event_id}".encode()).hexdigest()[:_DIGITS]
