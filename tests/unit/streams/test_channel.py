"""Channels: their grammar, their two written forms, their partition."""

from __future__ import annotations

import pytest

from streams.channel import Channel, Kind, channel_from_path, parse_channel
from streams.envelope import Actor
from streams.errors import MalformedChannel
from streams.redis.keys import Keys


@pytest.mark.parametrize("wire", ["conversation:42", "user:a@b.c", "document:A-z_0|+~.", "team:" + "x" * 128])
def test_names_by_the_grammar_are_read_and_written_alike(wire: str) -> None:
    """Both forms lead back to the same channel."""
    channel = parse_channel("acme", wire)

    assert channel.wire == wire
    assert channel.path == f"acme:{wire}"
    assert channel_from_path(channel.path) == channel


@pytest.mark.parametrize(
    "wire",
    ["", ":", "conversation", "conversation:", "room:1", "Conversation:1", "team:" + "x" * 129, "team:a b", "team:a\n", "team:é",
     "team:a:b", "team:{x}", "team:*", "team:a/b", "team:a\x00", "conversation: 1"],
)  # fmt: skip # a case a row
def test_everything_else_is_refused(wire: str) -> None:
    """A name can hold nothing that has a meaning in keys, patterns or JSON."""
    with pytest.raises(MalformedChannel):
        parse_channel("acme", wire)


@pytest.mark.parametrize("tenant", ["", "a:b", "a b", "x" * 65, "{a}", "é", "a\n"])
def test_tenants_have_a_grammar_too(tenant: str) -> None:
    """A tenant's name is part of every key."""
    with pytest.raises(MalformedChannel):
        parse_channel(tenant, "team:1")


def test_the_partition_is_redis_clusters_crc16() -> None:
    """CRC16/XMODEM of the path, whose check value for 123456789 is 0x31C3; it spreads channels over every partition."""
    from binascii import crc_hqx

    channels = [Channel("acme", Kind.TEAM, str(n)) for n in range(200)]

    assert crc_hqx(b"123456789", 0) == 0x31C3
    assert {channel.partition_of(8) for channel in channels} == set(range(8))
    assert [channel.partition_of(8) for channel in channels] == [crc_hqx(c.path.encode(), 0) % 8 for c in channels]


def test_every_key_of_a_channel_has_its_partitions_hash_tag() -> None:
    """Redis Cluster keeps keys of one tag in one slot: only then may one script touch them."""
    keys, channel = Keys(8), Channel("acme", Kind.CONVERSATION, "42")
    tag = f"hub:{{{keys.tags[channel.partition_of(8)]}}}:".encode()
    partition = keys.of(channel).partition
    names = [
        keys.of(channel).stream, keys.of(channel).meta, keys.of(channel).live, keys.of(channel).open, keys.bell(partition),
        keys.work(partition), keys.idempotency(partition, "acme", Actor("user", "alice")), keys.guard(channel, "run:1"),
        keys.snapshot(channel),
        keys.parked(partition), keys.groups(partition), keys.lease(partition), keys.runs(partition),
        keys.run_lease(channel, "r1"), keys.node(partition, "n1"),
    ]  # fmt: skip # a table

    assert all(name.startswith(tag) for name in names)
    assert len(set(names)) == len(names)
    assert keys.of(channel).stream == tag + b"acme:conversation:42"
    assert keys.channel_of(keys.of(channel).stream) == channel


def test_tenants_and_users_never_share_a_key() -> None:
    """Two tenants' channels of one name, two users' command ids: different keys."""
    keys = Keys(1)
    one, other = Channel("a", Kind.TEAM, "x"), Channel("b", Kind.TEAM, "x")

    assert keys.of(one).stream != keys.of(other).stream
    assert keys.guard(one, "g") != keys.guard(other, "g")
    assert len({keys.idempotency(0, t, Actor(k, u)) for t in "ab" for k in ("user", "agent") for u in "xy"}) == 8


@pytest.mark.interpreted
def test_remembered_keys_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that sees ever new channels forgets the old names, and names them alike again."""
    monkeypatch.setattr("streams.redis.keys._CHANNELS_KEPT", 100)
    keys = Keys(8)
    first = keys.of(Channel("acme", Kind.TEAM, "0"))
    for number in range(250):
        keys.of(Channel("acme", Kind.TEAM, str(number)))

    assert len(keys._channels) <= 101
    assert keys.of(Channel("acme", Kind.TEAM, "0")) == first
