"""The client for scripts without `async`: in a thread, as a script would use it, before a real hub."""

from __future__ import annotations

import asyncio

import pytest

from hub.client import ConnectionRefused, HubError
from hub.client.sync import SyncHub
from support.nodes import running_node, token


async def test_a_script_sends_reads_and_follows(redis_url: str, tenant: str) -> None:
    """Sent, read back, followed until it has enough, and followed again."""

    def script(url: str) -> tuple[list[str], list[str], int, list[int]]:
        with SyncHub(url, token("alice", tenant)) as hub:
            for number in range(3):
                hub.send("conversation:1", f"message {number}")
            followed = []
            for event in hub.subscribe("conversation:1", after="0"):
                followed.append(event.payload["text"])
                if len(followed) == 2:
                    break
            again = hub.subscribe("conversation:1", rewind=1)
            newest = [next(again).seq]
            again.close()
            read = [event.payload["text"] for event in hub.history("conversation:1").events]
            return followed, read, hub.state("conversation:1").state_at, newest

    async with running_node(redis_url) as node:
        followed, read, state_at, newest = await asyncio.to_thread(script, node.url)

    assert followed == ["message 0", "message 1"]
    assert read == ["message 0", "message 1", "message 2"]
    assert (state_at, newest) == (3, [3])


async def test_refusals_are_raised_and_the_thread_ends(redis_url: str, tenant: str) -> None:
    """A forged token raises in `with`; a refused command where it was called; nothing runs on afterwards."""

    def script(url: str) -> int:
        forged = SyncHub(url, token("alice", tenant) + "x")
        with pytest.raises(ConnectionRefused), forged:
            raise AssertionError("it was let in")
        assert not forged._thread.is_alive()
        with SyncHub(url, token("alice", tenant, {})) as hub, pytest.raises(HubError) as refused:
            hub.send("conversation:1", "x")
        assert not hub._thread.is_alive()
        return refused.value.code

    async with running_node(redis_url) as node:
        assert await asyncio.to_thread(script, node.url) == 4003
