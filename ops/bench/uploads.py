"""Speed and cost of uploads over a node's socket: `python -m ops.bench.uploads [UPLOADS] [MB]`.

Starts a node with its own Redis on this machine; this process is the client. It measures the node, not a network.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from base64 import b64encode
from pathlib import Path
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect

from hub.auth.signing import sign
from hub.uploads.chunks import encode_binary
from ops.children import NodeProcess
from ops.embedded_redis.server import EmbeddedRedis

SECRET: Final = "a-secret-for-the-benchmark-32-bytes-long"  # noqa: S105 - of a node that lives for a minute
CHANNEL: Final = "conversation:bench"
CHUNK: Final = os.urandom(256 * 1024)
WINDOW: Final = 4


def _status_mib(pid: int, field: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def _forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


def cpu_s(pid: int) -> float:
    """CPU seconds that all threads of a process have used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _answer(wire: ClientConnection, frame: dict[str, Any]) -> dict[str, Any]:
    await wire.send(json.dumps(frame))
    while True:
        found: dict[str, Any] = json.loads(await wire.recv())
        if found.get("re") == frame["id"]:
            return found


async def upload(url: str, token: str, size: int, *, is_binary: bool) -> None:
    """Upload `size` bytes, a multiple of a chunk's, with four chunks in flight."""
    async with connect(url, compression=None, max_size=None) as wire:
        hello = {"token": token, "versions": [1], "capabilities": ["binary_chunks"] if is_binary else []}
        await _answer(wire, {"type": "connection.init", "id": "i", "payload": hello})
        wish = {"filename": "f", "size": size, "mime": "application/octet-stream", "strategy": "socket"}
        place = {"type": "file.upload.request", "id": f"r{is_binary}", "channel": CHANNEL, "payload": wish}
        upload_id = (await _answer(wire, place))["payload"]["upload_id"]
        text = b64encode(CHUNK).decode()
        sent = held = flying = 0
        while held < size:
            while sent < size and flying < WINDOW:
                if is_binary:
                    await wire.send(encode_binary(upload_id, sent, CHUNK))
                else:
                    payload = f'{{"upload_id":"{upload_id}","offset":{sent},"data":"{text}"}}'
                    await wire.send(f'{{"type":"file.chunk","id":"c{sent}","channel":"{CHANNEL}","payload":{payload}}}')
                sent, flying = sent + len(CHUNK), flying + 1
            frame = json.loads(await wire.recv())
            if frame["type"] == "file.upload.progress" and "actor" not in frame:
                held, flying = frame["payload"]["next_offset"], flying - 1


async def _measure(url: str, pid: int, uploads: int, size: int, *, is_binary: bool) -> None:
    _forget_peak(pid)
    before, used_s, began = _status_mib(pid, "VmRSS"), cpu_s(pid), time.perf_counter()
    users = [f"u{number}" for number in range(uploads)]
    tokens = [sign(SECRET, user, "bench", {"conversation:*": ["*"]}, 600, time.time()) for user in users]
    await asyncio.gather(*[upload(url, token, size, is_binary=is_binary) for token in tokens])
    wall_s, used_s = time.perf_counter() - began, cpu_s(pid) - used_s
    megabytes = uploads * size / 1e6
    print(
        f"{'binary' if is_binary else 'base64'}: {uploads} x {size / 1e6:.0f} MB, {megabytes / wall_s:.0f} MB/s, "
        f"{megabytes / used_s:.0f} MB per CPU second of the node, which grew by {_status_mib(pid, 'VmHWM') - before:.0f} MiB"
    )


async def main(uploads: int = 1, megabytes: int = 200) -> None:
    """Measure binary and base64 chunks."""
    size = megabytes * 1_000_000 // len(CHUNK) * len(CHUNK)
    with tempfile.TemporaryDirectory() as folder, EmbeddedRedis(Path(folder) / "redis") as redis:
        node = NodeProcess(redis.url, SECRET, HUB_DATA=folder)
        node.start()
        try:
            await node.ready()
            for is_binary in (True, False):
                await _measure(f"ws://127.0.0.1:{node.port}/ws", node.pid, uploads, size, is_binary=is_binary)
        finally:
            node.kill()


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
