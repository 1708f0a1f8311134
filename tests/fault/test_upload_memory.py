"""A node that takes files holds chunks on their way in memory, never parts."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from hub.uploads.chunks import encode_binary
from support.nodes import NodeProcess, token
from support.socket_client import client
from support.uploads import CHANNEL, MIB

UPLOADS, SIZE = 10, 24 * MIB
GROWTH_MAX_MIB = 32


def peak_mib(pid: int) -> float:
    """The largest the process has been, in MiB."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


async def bring(node: NodeProcess, user: str, tenant: str, size: int) -> None:
    """A whole file, with as many chunks on their way as the window says."""
    piece = bytes(256 * 1024)
    async with client(node.ws_url, token(user, tenant), capabilities=["binary_chunks"]) as socket:
        wish = {"filename": "a", "size": size, "mime": "application/octet-stream", "strategy": "socket"}
        upload_id = (await socket.answer("file.upload.request", wish, CHANNEL))["payload"]["upload_id"]
        sent = held = flying = 0
        while held < size:
            while sent < size and flying < 4:
                await socket.send_raw(encode_binary(upload_id, sent, piece))
                sent, flying = sent + len(piece), flying + 1
            frame = json.loads(await socket.socket.recv())
            if frame["type"] == "file.upload.progress" and "actor" not in frame:
                assert frame["payload"]["accepted"], frame
                held, flying = frame["payload"]["next_offset"], flying - 1
        assert frame["payload"]["stored_offset"] == size


@pytest.mark.slow
async def test_parallel_socket_uploads_cost_no_parts(redis_url: str, tenant: str, tmp_path: Path) -> None:
    """Ten uploads at once, each several parts long, make a node grow by less than 32 MiB; ten parts would be 50.

    `ops/bench/uploads.py` does the same with 200 MB each.
    """
    node = NodeProcess(redis_url, HUB_DATA=str(tmp_path))
    try:
        await node.wait_ready()
        await bring(node, "warm", tenant, MIB)
        assert node._process is not None
        before = peak_mib(node._process.pid)

        await asyncio.gather(*[bring(node, f"u{n}", tenant, SIZE) for n in range(UPLOADS)])

        assert peak_mib(node._process.pid) - before < GROWTH_MAX_MIB
    finally:
        node.close()
