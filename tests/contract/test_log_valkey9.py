"""The log keeps its contract on Valkey 9, the server of the `embedded` extra."""

from __future__ import annotations

from contract.log_cases import LogCases

SERVER = "valkey"


class TestLogOnValkey9(LogCases):
    """See the cases."""
