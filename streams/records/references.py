"""Checks the references in a payload against the records beside the log."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from streams.channel import Channel
from streams.events.references import Reference, Referent
from streams.records.run_store import RunStore
from streams.records.upload_store import UploadStore
from streams.records.uploads import UploadState
from streams.redis.log import Log

NO_READY_FILE: Final = "is no ready file of this channel"
_PROBLEMS: Final[dict[Referent, str]] = {
    "file": NO_READY_FILE,
    "upload": "is no upload of this channel",
    "run": "is no run of this channel",
    "question": "is no question of this channel",
}


async def problems_of(log: Log, channel: Channel, named: Sequence[Reference]) -> list[tuple[str, str]]:
    """The field and the problem of each reference to a missing upload, run or question, or to a file that is not ready.

    Raises:
        LogUnavailable: Redis is unreachable.
    """
    asked = [reference for reference in named if reference.kind in _PROBLEMS]
    held = await asyncio.gather(*(_is_held(log, channel, reference) for reference in asked))
    return [(one.field, _PROBLEMS[one.kind]) for one, is_held in zip(asked, held, strict=True) if not is_held]


async def _is_held(log: Log, channel: Channel, reference: Reference) -> bool:
    match reference.kind:
        case "file":
            file = await UploadStore(log).read(channel, reference.id)
            return file is not None and file.state is UploadState.READY
        case "upload":
            return await UploadStore(log).read(channel, reference.id) is not None
        case "run":
            return await RunStore(log).run(channel, reference.id) is not None
        case _:
            return await RunStore(log).request(channel, reference.id) is not None
