"""The log keeps its contract on Redis 7."""

from __future__ import annotations

from contract.log_cases import LogCases

SERVER = "7"


class TestLogOnRedis70(LogCases):
    """See the cases."""
