"""What the general client raises when Redis is away or refuses: for code that uses it through somebody else, as arq's is."""

from __future__ import annotations

from typing import Final

from redis.exceptions import RedisError

AWAY: Final = (RedisError, OSError)
