"""The ID of a file, which follows from the event that asked for its upload (EVENTS 2). Pure.

The hub that answers the request, the worker that verifies and every fold derive the same one without asking. A run's ID
is derived likewise in `streams.records.runs`.
"""

from __future__ import annotations

from hashlib import blake2b

from streams.channel import Channel

_DIGEST_BYTES = 16
"""32 hex digits, as `FileId` has them."""


def file_id_of(channel: Channel, event_id: str) -> str:
    """The `upload_id`, later the `file_id`, of the `file.upload.request` with this ID."""
    return blake2b(f"{channel.path}:{event_id}".encode(), digest_size=_DIGEST_BYTES).hexdigest()
