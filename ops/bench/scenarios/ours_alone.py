"""Scenarios of this hub alone: files over the socket, and streamed answers."""

from __future__ import annotations

import tempfile
import time
from typing import Final

from hub.auth.signing import sign
from ops.bench.answers import TENANT, Load, answer_all, answering
from ops.bench.scenarios.scenario import Figure, Measured, Scenario
from ops.bench.setup import Setup
from ops.bench.sizes import Sizes
from ops.bench.uploads import CHUNK, upload

_WORDS: Final = 50
_PACE_MS: Final = 50
_RAMP_S: Final = 2.0
_GRANTS: Final = {"*": ["*"]}


async def _uploads(setup: Setup, sizes: Sizes) -> Measured:
    size = max(1, sizes.upload_mb * 1_000_000 // len(CHUNK)) * len(CHUNK)
    url = f"ws://127.0.0.1:{setup.nodes[0].port}/ws"
    token = sign(setup.servers.secret, "uploader", setup.tenant, _GRANTS, 86_400, time.time())
    before = await setup.usage()
    async with setup.measured() as spent:
        await upload(url, token, size, is_binary=True)
    megabytes = size / 1e6
    figures = {
        "mb_per_s": megabytes / spent.seconds,
        "node_cpu_ms": spent.cpu_us("nodes", megabytes) / 1e3,
        "grown_mb": (spent.rss_bytes["nodes"] - before.rss_bytes["nodes"]) / 1e6,
    }
    return Measured(figures, spent)


async def _answers(setup: Setup, sizes: Sizes) -> Measured:
    token = sign(setup.servers.secret, "bench", TENANT, _GRANTS, 86_400, time.time())
    load = Load(sizes.answers, _WORDS, _PACE_MS, _RAMP_S)
    redis = setup.servers.redis
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as folder:
        async with answering(redis.url, folder) as worker_pid, setup.measured() as spent:
            found = await answer_all(redis.url, setup.nodes[0], worker_pid, redis.pid, token, load)
    first = found["question_to_first_delta_ms"]
    figures = {
        "p50_ms": first["p50"],
        "p99_ms": first["p99"],
        "redis_entries": found["redis_entries_per_answer"],
        "node_cpu_ms": spent.cpu_us("nodes", sizes.answers) / 1e3,
    }
    return Measured(figures, spent)


UPLOADS: Final = Scenario(
    "uploads",
    "One file in binary chunks over the socket, four of them under way, into the local store.",
    (
        Figure("mb_per_s", "MB a second", is_more_better=True),
        Figure("node_cpu_ms", "node CPU a MB, ms"),
        Figure("grown_mb", "growth of the node, MB"),
    ),
    _uploads,
    lambda _: 1,
    is_ours=True,
)
ANSWERS: Final = Scenario(
    "answers",
    f"Questions to an agent that streams {_WORDS} words, one every {_PACE_MS} ms, begun over {_RAMP_S:g} s: the time from "
    "a question to the first delta of its answer. The agent itself takes none.",
    (
        Figure("p50_ms", "p50, ms"),
        Figure("p99_ms", "p99, ms"),
        Figure("redis_entries", "Redis entries an answer"),
        Figure("node_cpu_ms", "node CPU an answer, ms"),
    ),
    _answers,
    lambda _: 1,
    is_ours=True,
)
