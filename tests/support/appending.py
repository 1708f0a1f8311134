"""Appends drafts as clients do: returning any error, repeating until confirmed, or many at once."""

from __future__ import annotations

import asyncio

from streams.channel import Channel
from streams.envelope import Actor, Appended, Draft
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


async def fill(log: Log, channel: Channel, text: str, count: int) -> None:
    """Append so many messages with this text."""
    draft = Draft(channel, "chat.message", b'{"text":"%b"}' % text.encode(), Actor("user", "a"))
    await asyncio.gather(*(log.append(draft) for _ in range(count)))
