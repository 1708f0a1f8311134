"""Admission: who is counted, by which address, and the answers."""

from __future__ import annotations

import pytest

from hub.auth.origins import OriginPolicy, address_of, origin_policy
from hub.auth.permissions import compile_grants
from hub.auth.tokens import Principal
from hub.errors import HubError
from hub.limits.admission import RESERVE_FROM, Admission, ConnectLimits
from hub.limits.quotas import EVENT_BYTES, Quota, Quotas
from hub.limits.rates import RateLimiter
from hub.readers import NETWORKS
from streams.channel import parse_channel
from streams.envelope import Actor, Appended, Draft, Durability, Lane
from streams.errors import LogUnavailable

ALICE = Principal("alice", "acme", compile_grants({}, "alice"), 1e12)


class Counted:
    """The counts of one connection of an address."""

    def __init__(self) -> None:
        self.address = "192.0.2.1"
        self.counted(is_pending=False, held_tenant=None)

    def counted(self, *, is_pending: bool, held_tenant: str | None) -> None:
        self.is_pending, self.held_tenant = is_pending, held_tenant


class Rig:
    """An admission with a clock that stands still."""

    def __init__(self, quota: Quota | None = None) -> None:
        self.connects = ConnectLimits(RateLimiter(), pending_per_address_max=2)
        self.quotas = Quotas(quota)
        self.admission = Admission(self.connects, self.quotas, OriginPolicy(), lambda: 1.0)


@pytest.mark.parametrize("ending", ["entered", "left", "both"])
def test_a_connection_is_waited_for_once(ending: str) -> None:
    """Authenticated, gone or both: the address owes nothing in the end."""
    rig, connection = Rig(Quota(connections=5)), Counted()
    rig.admission.opened(connection)
    assert rig.connects.pending_count() == 1
    if ending != "left":
        rig.admission.entered(connection, ALICE)
        assert rig.quotas.usage()["acme"].connections == 1
    if ending != "entered":
        rig.admission.left(connection)
        rig.admission.left(connection)
        assert rig.quotas.usage() == {}

    assert rig.connects.pending_count() == 0


def test_a_refused_connection_is_counted_nowhere() -> None:
    """A refused socket that closes takes nothing from those who wait."""
    rig = Rig()
    waiting = [Counted(), Counted()]
    for connection in waiting:
        rig.admission.opened(connection)
    late = Counted()
    with pytest.raises(HubError) as refused:
        rig.admission.opened(late)
    rig.admission.left(late)

    assert refused.value.row.code == 4010
    assert rig.connects.pending_count() == 2


def test_only_failed_tokens_count_against_an_address() -> None:
    """The eleventh 4001 is 4004; a wrong version is not an attempt."""
    admission = Rig().admission
    other = [admission.refusal("192.0.2.1", HubError(4014, "x")).row.code for _ in range(30)]
    failed = [admission.refusal("192.0.2.1", HubError(4001, "x")) for _ in range(11)]

    assert set(other) == {4014}
    assert [error.row.code for error in failed] == [4001] * 10 + [4004]
    assert failed[-1].closes
    assert admission.refusal("192.0.2.2", HubError(4001, "x")).row.code == 4001


def test_bytes_are_given_back_for_what_was_not_stored_anew() -> None:
    """A duplicate and a refusal leave the store as it was; live frames are not weighed."""
    rig = Rig(Quota(bytes_stored=100 + EVENT_BYTES))
    draft = Draft(parse_channel("acme", "team:1"), "chat.message", b"x" * 60, Actor("user", "alice"))
    live = Draft(parse_channel("acme", "team:1"), "chat.typing", b"x" * 600, Actor("user", "alice"), lane=Lane.LIVE)
    old = Appended("1-0", 1, is_duplicate=True, durability=Durability.MEMORY)
    for result in (old, LogUnavailable("away"), None):
        rig.admission.charge(draft)
        rig.admission.settle(draft, result)
    rig.admission.charge(live)
    rig.admission.charge(draft)
    rig.admission.settle(draft, Appended("2-0", 2, is_duplicate=False, durability=Durability.MEMORY))

    with pytest.raises(HubError) as full:
        rig.admission.charge(draft)
    assert full.value.row.code == 4011


MAX_BYTES = 8 * 2**20
NEAR_BYTES = int(MAX_BYTES * RESERVE_FROM) - 100_000
"""Bytes in use when 100 kB are left before the reserve."""


@pytest.mark.parametrize("case", ["refused", "not stored"])
def test_what_is_not_stored_does_not_open_the_reserve(case: str) -> None:
    """A tenant over its rate filled nothing, but its refused events opened the reserve for everybody."""
    rig = Rig(Quota(publishes_per_s=1) if case == "refused" else None)
    rig.admission.look_at_memory(NEAR_BYTES, MAX_BYTES)
    draft = Draft(parse_channel("acme", "team:1"), "chat.message", b"x" * 5_000, Actor("user", "alice"))
    refused = 0
    for _ in range(30):
        try:
            rig.admission.charge(draft)
        except HubError:
            refused += 1
        else:
            stored = Appended("2-0", 2, is_duplicate=False, durability=Durability.MEMORY)
            rig.admission.settle(draft, stored if case == "refused" else None)

    assert refused == (20 if case == "refused" else 0)
    assert not rig.admission.is_reserve_open


def test_the_keys_of_new_channels_open_the_reserve() -> None:
    """Thirty small messages in new channels are 140 kB in Redis, not 6."""
    rig = Rig()
    rig.admission.look_at_memory(NEAR_BYTES, MAX_BYTES)
    for number in range(30):
        draft = Draft(parse_channel("acme", f"team:{number}"), "chat.message", b"x", Actor("user", "alice"))
        rig.admission.charge(draft)
        first = Appended("2-0", 1, is_duplicate=False, durability=Durability.MEMORY, is_first=True)
        rig.admission.settle(draft, first)

    assert rig.admission.is_reserve_open


ADDRESSES = {
    "a peer": (("192.0.2.1", 5), {}, "192.0.2.1"),
    "a peer who claims another": (("192.0.2.1", 5), {b"x-forwarded-for": b"10.0.0.1"}, "192.0.2.1"),
    "a proxy here": (("127.0.0.1", 5), {b"x-forwarded-for": b"10.0.0.1"}, "10.0.0.1"),
    "a proxy here, and what the client wrote itself": (
        ("::1", 5),
        {b"x-forwarded-for": b"1.1.1.1, 10.0.0.1"},
        "10.0.0.1",
    ),
    "a unix socket": (None, {b"x-forwarded-for": b"10.0.0.1"}, "10.0.0.1"),
    "a proxy here, before which another of ours stands": (
        ("127.0.0.1", 5),
        {b"x-forwarded-for": b"10.0.0.1, 127.0.0.2"},
        "10.0.0.1",
    ),
    "a mapped proxy here": (("::ffff:127.0.0.1", 5), {b"x-forwarded-for": b"10.0.0.1"}, "10.0.0.1"),
    "one customer's addresses": (("2001:db8:1:2:ffff::7", 5), {}, "2001:db8:1:2::"),
    "a mapped address": (("::ffff:192.0.2.1", 5), {}, "192.0.2.1"),
    "no address": (("127.0.0.1", 5), {b"x-forwarded-for": b"x" * 1_000}, "x" * 64),
    "nothing": (None, {}, ""),
}


@pytest.mark.parametrize("case", ADDRESSES)
def test_whom_failures_count_against(case: str) -> None:
    """By default a proxy on this machine is believed, and only what it wrote itself; IPv6 counts by /64."""
    client, headers, expected = ADDRESSES[case]

    assert address_of(client, headers) == expected


@pytest.mark.parametrize(("peer", "forwarded", "expected"), [
    ("10.1.2.3", b"192.0.2.1", "192.0.2.1"), ("10.1.2.3", b"6.6.6.6, 192.0.2.1, 10.9.9.9", "192.0.2.1"),
    ("127.0.0.1", b"192.0.2.1", "127.0.0.1"), ("192.0.2.9", b"192.0.2.1", "192.0.2.9"), ("10.1.2.3", b"", "10.1.2.3"),
])  # fmt: skip # a case a row
def test_only_the_proxies_that_are_set_are_believed(peer: str, forwarded: bytes, expected: str) -> None:
    """Each takes the place of this machine's; what stands left of the first that is none was written by the client."""
    assert address_of((peer, 5), {b"x-forwarded-for": forwarded}, NETWORKS.read("10.0.0.0/8")) == expected


def test_a_well_signed_token_keeps_its_own_code_when_its_address_has_failed_too_often() -> None:
    """Behind one proxy somebody forges; the others, whose tokens expired or were revoked, are told so."""
    admission = Rig().admission
    for _ in range(12):
        admission.refusal("192.0.2.1", HubError(4001, "x"))

    answers = [admission.refusal("192.0.2.1", HubError(code, "x")).row.code for code in (4001, 4002, 4019)]

    assert answers == [4004, 4002, 4019]


@pytest.mark.parametrize(
    ("origin", "host", "expected"),
    [
        (None, b"hub.example", True),
        (b"https://hub.example", b"hub.example", True),
        (b"http://hub.example:80", b"hub.example", True),
        (b"https://HUB.example", b"hub.example:443", True),
        (b"https://hub.example.evil", b"hub.example", False),
        (b"https://hub.example:8443", b"hub.example", False),
        (b"null", b"hub.example", False),
        (b"https://public.example", b"10.0.0.1:8000", True),
        (b"https://listed.example", b"hub.example", True),
        (b"http://listed.example", b"hub.example", False),
        (b"", b"", False),
        (b"https://\xff", b"hub.example", False),
    ],
)
def test_pages_of_the_hub_itself_and_listed_ones(origin: bytes | None, host: bytes, expected: bool) -> None:
    """By the request's host or the public address; nothing else."""
    policy = origin_policy(frozenset({"https://listed.example"}), "wss://public.example/ws")

    assert policy.allows(origin, host) is expected
