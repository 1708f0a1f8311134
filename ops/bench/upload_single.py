"""Compares an upload by one PUT through the hub with boto3: `python -m ops.bench.upload_single [MB] [ROUNDS]`.

The two alternate, in an order that changes each round, so that all run under the same conditions; the result is the ratio of
their medians. boto3's `put_object` is measured twice: with its default, a CRC32, and with the SHA-256 that the hub always asks
the store to verify. `S3_ENDPOINT_URL`, `S3_BUCKET` and credentials come from the environment, as for the hub; to use the tests'
server, run `python tests/support/s3_server.py serve`. The hub's time is all that a user waits for: hashing, the request, the
PUT, and `file.ready` after the worker has verified the stored bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import boto3

from hub.auth.signing import sign
from hub.client import HubClient
from ops.bench.uploads import CHANNEL, SECRET, cpu_s
from ops.children import Child, NodeProcess
from ops.children import hub as hub_command
from ops.embedded_redis.server import EmbeddedRedis


@contextlib.asynccontextmanager
async def client_setup(folder: Path) -> AsyncIterator[tuple[HubClient, Callable[[], float]]]:
    """Start a node and a worker with their own Redis; yields a client, and a function for the CPU seconds the two have used."""
    with EmbeddedRedis(folder / "redis") as redis:
        node = NodeProcess(redis.url, SECRET, HUB_DATA=str(folder))
        node.start()
        worker = Child("the worker", hub_command("worker"), node.environment)
        try:
            await node.ready()
            token = sign(SECRET, "alice", "bench", {"conversation:*": ["*"]}, 3_600, time.time())
            async with HubClient(node.url, token) as hub:
                yield hub, lambda: cpu_s(node.pid) + cpu_s(worker.pid)
        finally:
            worker.kill()
            node.kill()


class Plain:
    """boto3 with default settings, except for the `options` of `put_object`."""

    def __init__(self, environment: Mapping[str, str], **options: str) -> None:
        self._options = options
        self._bucket = environment["S3_BUCKET"]
        region = environment.get("S3_REGION") or "us-east-1"
        self._client: Any = boto3.client("s3", endpoint_url=environment.get("S3_ENDPOINT_URL"), region_name=region)

    async def put(self, path: Path) -> None:
        """Run `put_object` in a thread, as our own client runs its PUT; always with the same key."""
        await asyncio.to_thread(self._put, path)

    def _put(self, path: Path) -> None:
        with path.open("rb") as body:
            self._client.put_object(Bucket=self._bucket, Key="bench/plain", Body=body, **self._options)

    def close(self) -> None:
        """Delete the stored object."""
        self._client.delete_object(Bucket=self._bucket, Key="bench/plain")
        self._client.close()


@dataclass(slots=True)
class Way:
    """One way to upload the file, with wall-clock and CPU time of this process for each round."""

    job: Callable[[], Awaitable[object]]
    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)

    async def run(self) -> None:
        """Run and measure one round."""
        began, used_s = time.perf_counter(), time.process_time()
        await self.job()
        self.wall_s.append(time.perf_counter() - began)
        self.cpu_s.append(time.process_time() - used_s)

    def to_json(self) -> dict[str, float]:
        """The medians of its rounds."""
        return {"median_s": round(median(self.wall_s), 3), "cpu_s": round(median(self.cpu_s), 3)}


async def main(megabytes: int = 200, rounds: int = 7) -> None:
    """Measure; print a line each round, and one JSON object at the end."""
    with (
        tempfile.TemporaryDirectory() as name,
        contextlib.closing(Plain(os.environ)) as plain,
        contextlib.closing(Plain(os.environ, ChecksumAlgorithm="SHA256")) as verified,
    ):
        path = Path(name) / "file.bin"
        path.write_bytes(os.urandom(megabytes * 1_000_000))
        async with client_setup(Path(name)) as (hub, servers_cpu_s):
            ways = {
                "boto3": Way(lambda: plain.put(path)),
                "boto3_sha256": Way(lambda: verified.put(path)),
                "hub": Way(lambda: hub.upload(CHANNEL, path, strategy="single")),
            }
            for way in ways.values():
                await way.job()  # warm up connections, page cache and imports
            before = servers_cpu_s()
            for number in range(rounds):
                for way in list(ways.values())[:: 1 if number % 2 else -1]:
                    await way.run()
                took = ", ".join(f"{what} {way.wall_s[-1]:.3f} s" for what, way in ways.items())
                print(took, file=sys.stderr, flush=True)
            servers_s = (servers_cpu_s() - before) / rounds
    ours = median(ways["hub"].wall_s)
    figures = {
        "mb": megabytes,
        "rounds": rounds,
        **{what: way.to_json() for what, way in ways.items()},
        "to_boto3": round(ours / median(ways["boto3"].wall_s), 3),
        "to_boto3_sha256": round(ours / median(ways["boto3_sha256"].wall_s), 3),
        "node_and_worker_cpu_s": round(servers_s, 3),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
