"""Hash tags that spread over the slots, and the map from partitions to servers."""

from __future__ import annotations

from collections import Counter

import pytest

from streams.channel import Channel, Kind
from streams.redis.keys import SLOTS, Keys, Servers, edge_keys, slot_of, spread_tags, upload_home, upload_ledger


def masters(keys: Keys, count: int) -> Servers[int]:
    """As many masters as `redis-cli --cluster create` makes, each with its share of the slots."""
    return Servers(keys, [(round(number * SLOTS / count), number) for number in range(count)])


@pytest.mark.parametrize("partitions", [1, 8, 16, 64, 1_024])
def test_tags_lie_evenly_over_the_slots(partitions: int) -> None:
    """Number i is at slot i·16384/n, or right behind it, and the same ever again."""
    slots = [slot_of(f"hub:{{{tag}}}:bell") for tag in spread_tags(partitions)]
    wanted = [number * SLOTS // partitions for number in range(partitions)]

    assert all(0 <= slot - want <= 1 for slot, want in zip(slots, wanted, strict=True))
    assert spread_tags(8)[7] == "p07-ok6"


@pytest.mark.parametrize("partitions", [8, 64])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 6, 8])
def test_no_master_has_more_than_one_partition_more_than_another(partitions: int, count: int) -> None:
    """Plain numbers put 8 partitions on 3 masters as 2, 2, 4, and on 6 as 0, 2, 2, 0, 2, 2."""
    servers = masters(Keys(partitions), count)
    shares = Counter(servers.by_partition[number] for number in range(partitions))

    assert set(servers) == set(range(count))
    assert max(shares.values()) - min(shares[number] for number in range(count)) <= 1


def test_a_partition_is_where_its_keys_are() -> None:
    """The map by number and the map by key agree for every key of a channel."""
    keys = Keys(8)
    servers = masters(keys, 3)
    for number in range(100):
        channel = Channel("acme", Kind.TEAM, str(number))
        names = keys.of(channel)
        found = {
            servers.keeping(key) for key in (names.stream, names.meta, keys.guard(channel, "g"), keys.snapshot(channel))
        }
        assert found == {servers.by_partition[names.partition]}


def test_keys_that_one_script_touches_share_a_slot() -> None:
    """Keys that the nodes share, and a tenant's uploads, belong to no partition but to one slot each."""
    edge = edge_keys()
    ledger = upload_ledger("acme", "alice")

    assert (
        len({slot_of(key) for key in (edge.rates, edge.revocations, edge.bell, edge.sessions, edge.bytes_stored)}) == 1
    )
    assert len({slot_of(key) for key in (*ledger, upload_home("acme", "u1"))}) == 1


@pytest.mark.parametrize(
    ("key", "slot"),
    [
        ("123456789", 12_739),
        ("{user1000}.following", 3_443),
        ("foo{}{bar}", 8_363),
        ("foo{bar}{zap}", 5_061),
        ("a{b", 13_340),
    ],
)
def test_slots_are_those_of_the_cluster_specification(key: str, slot: int) -> None:
    """CRC16 of the tag, of the whole key where the tag is empty or open (values by CLUSTER KEYSLOT)."""
    assert slot_of(key) == slot
