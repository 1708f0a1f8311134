"""Calls beside the hot path, on the redis-py client: its errors in our words. Not for append, tail or replay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from streams.errors import LogUnavailable
from streams.redis.scripts import Script

Argument = bytes | str | int | float


async def side_call(redis: Redis, *args: Argument) -> Any:
    """One command.

    Raises:
        LogUnavailable: Redis is away, too slow, or refused the command.
    """
    try:
        return await redis.execute_command(*args)  # type: ignore[no-untyped-call]  # untyped in redis-py 5
    except (RedisError, OSError, TimeoutError) as error:
        raise LogUnavailable(f"Redis did not carry out {args[0]!r}: {error}") from error


async def side_script(redis: Redis, script: Script, keys: Sequence[bytes], args: Sequence[Argument]) -> Any:
    """One script, by EVALSHA, and by EVAL where Redis has forgotten it.

    Raises:
        LogUnavailable: as `side_call`.
    """
    tail = (len(keys), *keys, *args)
    try:
        return await side_call(redis, "EVALSHA", script.digest, *tail)
    except LogUnavailable as error:
        if not isinstance(error.__cause__, NoScriptError):
            raise
        return await side_call(redis, "EVAL", script.text, *tail)
