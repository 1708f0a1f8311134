"""Parts of what a person says, held against what is there before they are stored."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hub.errors import ErrorDetail, HubError
from hub.protocol.commands import Command
from streams.events.values import FilePart, InPart
from streams.records.upload_store import UploadStore
from streams.records.uploads import UploadState
from streams.redis.log import Log


async def require_files(log: Log, command: Command, parts: Sequence[InPart] | None) -> None:
    """Every file the parts name is a ready file of the command's channel.

    Raises:
        HubError: 4018, with the part.
    """
    named = {part.file_id: at for at, part in enumerate(parts or ()) if isinstance(part, FilePart)}
    if not named:
        return
    store = UploadStore(log)
    found = await asyncio.gather(*(store.read(command.place, file_id) for file_id in named))
    for at, file in zip(named.values(), found, strict=True):
        if file is None or file.state is not UploadState.READY:
            problem = ErrorDetail(f"parts.{at}.file_id", "is no ready file of this channel")
            raise HubError(4018, "a part names a file that is not ready in this channel", details=(problem,))
