"""hub.js in Node."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

CLIENT = Path(__file__).parents[2] / "hub/client_js"
PROGRAM = """
const { HubClient } = await import(process.argv[1]);
delete globalThis.WebSocket;
const client = new HubClient("ws://127.0.0.1:1/ws", "t");
await client.connect().catch((error) => console.log(error.message));
console.log(client.state);
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="no Node here")
async def test_without_a_web_socket_it_ends_with_a_sentence() -> None:
    """Node has one from version 22 on; before, hub.js tried for ever and said nothing."""
    node = await asyncio.create_subprocess_exec(
        "node", "--input-type=module", "-e", PROGRAM, str(CLIENT / "hub.js"), stdout=-1, stderr=-1
    )
    out, err = await asyncio.wait_for(node.communicate(), 60)

    message, state = out.decode().splitlines() or [err.decode(), ""]
    assert "there is no WebSocket in this environment" in message
    assert state == "closed"
