"""The log keeps its contract on Redis 6.2, the oldest it takes."""

from __future__ import annotations

from contract.log_cases import LogCases

SERVER = "6.2"


class TestLogOnRedis62(LogCases):
    """See the cases."""
