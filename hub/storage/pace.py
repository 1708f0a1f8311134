"""The least pace of a body that arrives, over the last seconds and not since its start. Pure."""

from __future__ import annotations


class Pace:
    """Credit in seconds: time uses it up, bytes earn it, and no more than the grace is kept. Without credit a body is too slow.

    So a body that came fast at first may not stall for longer than one that has just begun.

    Args:
        bytes_per_s: the pace that keeps the credit as it is.
        grace_s: the credit at the start, and the most there is.
        now: seconds of a clock that does not go back.
    """

    def __init__(self, bytes_per_s: float, grace_s: float, now: float) -> None:
        self._bytes_per_s, self._grace_s = bytes_per_s, grace_s
        self._credit_s, self._at = grace_s, now

    def came(self, size_bytes: int, now: float) -> float:
        """Count bytes that came; returns the time by which more must come."""
        left_s = self._credit_s - (now - self._at) + size_bytes / self._bytes_per_s
        self._credit_s, self._at = min(self._grace_s, left_s), now
        return now + self._credit_s

    def rest_until(self, now: float) -> float:
        """Pass over the time since the last bytes, in which they were written here and nothing was read."""
        self._at = now
        return now + self._credit_s
