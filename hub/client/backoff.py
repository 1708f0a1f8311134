"""How long to wait before trying again: exponential with full jitter. Pure; the jitter is passed in.

Full jitter (a uniform draw between nothing and the ceiling) spreads a crowd that lost its node at one instant best:
https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
"""

from __future__ import annotations

from typing import Final

_DOUBLINGS_MAX: Final = 32
"""Beyond this the ceiling is long reached; it keeps the number small."""


def full_jitter_s(attempt: int, min_ms: int, max_ms: int, jitter: float) -> float:
    """Seconds to wait before attempt number `attempt` (0 is the first), for a `jitter` drawn from [0, 1)."""
    ceiling_ms: int = min(max_ms, min_ms * 2 ** min(attempt, _DOUBLINGS_MAX))
    return ceiling_ms * jitter / 1000
