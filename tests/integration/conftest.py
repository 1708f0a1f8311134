"""What tests of workers and runs share."""

from __future__ import annotations

import pytest

from streams.redis.log import Log
from support.run_rig import Client, conversation


@pytest.fixture
def client(log: Log, tenant: str) -> Client:
    """Somebody who asks agents, in a conversation of this test."""
    return Client(log, conversation(tenant))
