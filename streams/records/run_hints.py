"""Hints to look at a run at once, over pub/sub. They may be lost: whoever listens also polls."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from streams.redis.keys import CONTROL

AGAIN_S: Final = 0.5
_log = logging.getLogger(__name__)


async def listen(redis: Redis, on_hint: Callable[[str, str], None]) -> None:
    """Call `on_hint(channel path, run id)` for every hint, for ever. Comes back by itself when Redis does."""
    while True:
        try:
            async with redis.pubsub(ignore_subscribe_messages=True) as pubsub:
                await pubsub.subscribe(CONTROL)
                while True:
                    message = await pubsub.get_message(timeout=1.0)
                    if message is not None:
                        path, run_id = json.loads(message["data"])
                        on_hint(path, run_id)
        except (RedisError, OSError, ValueError, TypeError) as error:
            _log.debug("hints stop for a moment: %s", error)
            await asyncio.sleep(AGAIN_S)
