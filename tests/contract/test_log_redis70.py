"""The log keeps its contract on Redis 7.0, as Debian ships it."""

from __future__ import annotations

from pathlib import Path

from contract.log_cases import LogCases

BINARY = Path("/usr/bin/redis-server")
VERSION = (7, 0)


class TestLogOnRedis70(LogCases):
    """See the cases."""
