"""How an upload ended: looked for in the channel's history after its claim, at first often."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, Final

from hub.client.errors import HubError, UploadFailed

if TYPE_CHECKING:
    from hub.client.client import HubClient

INVALID_STATE: Final = 4021
_POLLS_S: Final = (0.01, 0.01, 0.02, 0.02, *[0.03] * 5, *[0.1] * 10, *[0.2] * 10, 0.5)
_LAST_POLL_S: Final = 1.0
"""Pauses between looks. Most files are verified within 30 ms, and a look too late is a tenth of a small upload; in all no more
than the burst of the `history` class (EVENTS 14) before the pauses are longer than its rate."""


async def outcome(client: HubClient, channel: str, upload_id: str, after: str) -> Mapping[str, Any]:
    """The payload of `file.ready`, which comes after the event `after`.

    Raises:
        UploadFailed: `file.upload.failed` came.
    """
    for pause_s in chain(_POLLS_S, repeat(_LAST_POLL_S)):
        page = await client.history(channel, after=after, types=["file.ready", "file.upload.failed"], limit=100)
        for event in page.events:
            if event.payload.get("file_id") == upload_id and event.type == "file.ready":
                return event.payload
            if event.payload.get("upload_id") == upload_id and event.type == "file.upload.failed":
                raise UploadFailed(event.payload["reason"], event.payload["message"])
        after = page.events[-1].id if page.events else after
        await asyncio.sleep(pause_s)
    raise AssertionError("the pauses have no end")


async def outcome_of_another(client: HubClient, channel: str, upload_id: str, error: HubError) -> Mapping[str, Any]:
    """Somebody has claimed this upload already, as a process before this one: wait until it can be read.

    Args:
        client: connected.
        channel: where the file will live.
        upload_id: the upload.
        error: how the claim was refused: 4021, with the state.

    Raises:
        UploadFailed: it had failed.
    """
    for pause_s in chain(_POLLS_S, repeat(_LAST_POLL_S)):
        if "failed" in str(error.details[0].get("problem")):
            break
        try:
            await client.command("file.url", channel, {"file_id": upload_id})
        except HubError as refused:
            if refused.code != INVALID_STATE:
                raise
            error = refused
            await asyncio.sleep(pause_s)
        else:
            return {"file_id": upload_id}
    raise UploadFailed("storage", "the upload had failed before") from error
