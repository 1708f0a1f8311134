"""Objects that a node lets go of are freed at once: no cycle of its own waits for a collector, which rarely looks at everything."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter

from support.nodes import Node, token
from support.socket_client import client

OURS = ("hub.", "streams.", "projections.")
SOCKETS = 10


async def _uses(node: Node, tenant: str, name: str) -> None:
    """Follows a channel of its own, writes, and goes."""
    async with client(node.ws_url, token(name, tenant)) as socket:
        await socket.subscribe(f"conversation:{name}")
        await socket.answer("chat.message", {"text": "hi"}, f"conversation:{name}")
        await socket.answer("chat.message", {"text": "ho"}, f"conversation:{name}")


async def test_sockets_channels_and_messages_leave_no_cycles(node: Node, tenant: str) -> None:
    """A cycle for each batch held its messages, and one for each channel the events it had cached."""
    await _uses(node, tenant, "before")  # what is made once
    await asyncio.sleep(0)
    gc.collect()
    gc.disable()
    try:
        for number in range(SOCKETS):
            await _uses(node, tenant, f"u{number}")
        await node.hub.log.ping()
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found = Counter(type(one).__qualname__ for one in gc.garbage if type(one).__module__.startswith(OURS))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()

    assert not {name: count for name, count in found.items() if count >= SOCKETS // 2}
