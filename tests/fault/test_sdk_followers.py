"""The main promise: clients cut at random, nodes and Redis killed, and every list of (seq, id, bytes) equals the stream's."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from ops.embedded_redis.server import EmbeddedRedis
from support.sdk_followers import Followed, Plan, compare, irc_sources, made_up_sources

IRC = Path(__file__).parents[3] / "shared" / "data" / "irc"


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_no_client_misses_or_repeats_a_byte_while_everything_is_killed(tmp_path: Path) -> None:
    """50 SDK clients, cut every second or so; a node killed every 3 s, Redis every 5 s; 48,745 real messages where they are."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    sources = irc_sources(IRC, "t") if IRC.is_dir() else made_up_sources(20, 1_000, "t", seed)
    plan = Plan(seconds=12, kill_every_s=3, redis_kill_every_s=5, settle_s=250, seed=seed)

    with EmbeddedRedis(tmp_path, fsync="always") as redis:
        report = await Followed(plan, redis, sources, print).run()

    assert report.faults == []
    assert report.events_checked >= sum(len(drafts) for _, drafts in sources)
    assert min(report.node_kills, report.redis_kills) >= 1
    assert report.cuts > 60


@pytest.mark.parametrize(
    ("seen", "problem"),
    [
        ([1, 3], "a gap"),
        ([1, 2, 2], "a duplicate"),
        ([2, 1, 3], "a gap"),
        ([1, 2], "2 events seen"),
    ],
)
def test_the_checker_finds_what_is_wrong(seen: list[int], problem: str) -> None:
    """A checker that cannot fail proves nothing: gaps, repeats and missing ends are each named."""
    stored = [(seq, f"{seq}-0", b"%d" % seq) for seq in (1, 2, 3)]

    faults = compare(0, "conversation:1", [(seq, f"{seq}-0", b"%d" % seq) for seq in seen], stored)

    assert problem in faults[0].problem


def test_the_checker_finds_other_bytes() -> None:
    """The same seq with other bytes is a fault."""
    assert "other bytes" in compare(0, "c", [(1, "1-0", b"x")], [(1, "1-0", b"y")])[0].problem
