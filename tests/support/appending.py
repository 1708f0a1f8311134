"""Appends drafts as clients do: returning any error, or repeating until confirmed."""

from __future__ import annotations

import asyncio

from streams.envelope import Appended, Draft
from streams.errors import StreamsError
from streams.redis.log import Log


async def outcome(log: Log, draft: Draft) -> Appended | StreamsError:
    """The result of an append: the answer, or the error."""
    try:
        return await log.append(draft)
    except StreamsError as error:
        return error


async def stored_at_last(log: Log, draft: Draft) -> Appended:
    """Repeat an append until it is confirmed."""
    while isinstance(answer := await outcome(log, draft), StreamsError):  # noqa: ASYNC110 - confirmed only by asking again
        await asyncio.sleep(0)
    return answer
