"""The promise of an ack and the barrier it takes, on servers that are not there as well (WAITAOF is Redis 7.2's)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streams.channel import Kind
from streams.envelope import Durability
from streams.errors import ConfigurationRefused
from streams.redis.durability import DurabilityPolicy, ServerFacts
from streams.redis.server_check import check_facts

PLAIN = ServerFacts(
    (7, 2, 4), "r", is_fsync_always=False, is_append_only=False, replicas=0, maxmemory_policy="noeviction"
)
AOF = replace(PLAIN, is_append_only=True)
ALWAYS = replace(AOF, is_fsync_always=True)
FOLLOWED = replace(AOF, replicas=1)
FSYNC, REPLICATED = {Kind.TEAM: Durability.FSYNC}, {Kind.TEAM: Durability.REPLICATED}
WAITAOF, WAIT = (b"WAITAOF", b"1", b"0", b"2000"), (b"WAIT", b"1", b"2000")


@pytest.mark.parametrize(
    ("facts", "wanted", "level", "barrier"),
    [
        (PLAIN, {}, Durability.MEMORY, None),
        (ALWAYS, {}, Durability.FSYNC, None),
        (AOF, FSYNC, Durability.FSYNC, WAITAOF),
        (ALWAYS, FSYNC, Durability.FSYNC, None),
        (FOLLOWED, REPLICATED, Durability.REPLICATED, WAIT),
        (replace(ALWAYS, replicas=2), REPLICATED, Durability.REPLICATED, WAIT),
        (ALWAYS, {Kind.TEAM: Durability.MEMORY}, Durability.FSYNC, None),
    ],
)
def test_level_and_barrier(
    facts: ServerFacts, wanted: dict[Kind, Durability], level: Durability, barrier: tuple[bytes, ...] | None
) -> None:
    """The level asked for, or what the server gives anyway if that is more; a barrier only where the reply is not enough."""
    policy = DurabilityPolicy(wanted, facts)

    assert (policy.level_of(Kind.TEAM), policy.barrier_of(Kind.TEAM)) == (level, barrier)
    assert policy.barrier_of(Kind.USER) is None
    assert policy.has_barriers is (barrier is not None)


@pytest.mark.parametrize(
    ("facts", "wanted"), [(PLAIN, FSYNC), (replace(AOF, version=(7, 0, 15)), FSYNC), (AOF, REPLICATED)]
)
def test_what_the_server_cannot_give_is_refused(facts: ServerFacts, wanted: dict[Kind, Durability]) -> None:
    """No append-only file, no WAITAOF, no replica: refused at start, not promised."""
    with pytest.raises(ConfigurationRefused):
        DurabilityPolicy(wanted, facts)


def test_a_reconnect_lowers_and_raises_what_is_promised() -> None:
    """Another server after a failover: acks say what it gives; a replica that is not there yet refuses nothing."""
    policy = DurabilityPolicy(REPLICATED, replace(ALWAYS, replicas=1))
    levels = [policy.level_of(Kind.USER)]
    policy.rebase(AOF)
    levels.append(policy.level_of(Kind.USER))

    assert levels == [Durability.FSYNC, Durability.MEMORY]
    assert (policy.level_of(Kind.TEAM), policy.barrier_of(Kind.TEAM)) == (Durability.REPLICATED, WAIT)


def test_a_refused_reconnect_changes_nothing() -> None:
    """The level that cannot be kept stays asked for; nothing is promised less meanwhile."""
    policy = DurabilityPolicy(FSYNC, ALWAYS)
    with pytest.raises(ConfigurationRefused):
        policy.rebase(PLAIN)

    assert policy.level_of(Kind.TEAM) is Durability.FSYNC


@pytest.mark.parametrize(
    ("barrier", "counts", "is_reached"),
    [
        (WAIT, 1, True), (WAIT, 2, True), (WAIT, 0, False), (WAIT, RuntimeError("lost"), False),
        (WAITAOF, [1, 0], True), (WAITAOF, [1, 3], True), (WAITAOF, [0, 1], False), (WAITAOF, RuntimeError("lost"), False),
    ],
)  # fmt: skip # a case a row
def test_the_numbers_of_a_barrier_are_checked(barrier: tuple[bytes, ...], counts: object, is_reached: bool) -> None:
    """A barrier that timed out answers too, with fewer."""
    assert DurabilityPolicy.reached(barrier, counts) is is_reached


@pytest.mark.parametrize("version", [(5, 0, 14), (6, 0, 16), (6, 1, 240)])
def test_an_old_server_is_refused(version: tuple[int, ...]) -> None:
    """Before 6.2 there is no exclusive XRANGE and no XTRIM MINID."""
    with pytest.raises(ConfigurationRefused, match=r"6\.2"):
        check_facts(replace(PLAIN, version=version))
    check_facts(replace(PLAIN, version=(6, 2, 0)))
