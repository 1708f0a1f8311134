"""The least that replaying a stream can cost in Python: `python -m ops.bench.bare_replay REDIS_URL KEY`.

XRANGE by pages, hiredis, and the joining of frames, with the next page requested before the last one is joined: no checksum, no
bound in bytes, no socket to a client. Prints the events, the seconds and the CPU seconds as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Final

import uvloop

from hub.node.fanout import encode_events
from hub.ports import Encoding
from streams.envelope import read_entry
from streams.redis.replay import PAGE_EVENTS
from streams.redis.wire import Reply, open_wire

_WIRE: Final = b"conversation:all0"


async def replay(redis_url: str, key: str) -> dict[str, float]:
    """Join all events of a stream as frames; returns their number and what it took."""
    wire = await open_wire(redis_url, "hub-bench")
    is_over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    began_s, cpu_s, count = time.perf_counter(), time.process_time(), 0

    def take(raw: Reply) -> None:
        nonlocal count
        if not raw or isinstance(raw, Exception):
            is_over.set_result(None)
            return
        ask(b"(" + raw[-1][0])
        encode_events([read_entry(entry).wire(_WIRE) for entry in raw], Encoding.PLAIN)
        count += len(raw)

    def ask(start: bytes) -> None:
        wire.send(take, b"XRANGE", key, start, b"+", b"COUNT", PAGE_EVENTS)

    ask(b"-")
    await is_over
    wire.abort()
    return {"events": count, "seconds": time.perf_counter() - began_s, "cpu_s": time.process_time() - cpu_s}


if __name__ == "__main__":
    print(json.dumps(uvloop.run(replay(*sys.argv[1:]))))
