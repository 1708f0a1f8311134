"""News of resumed sessions: whose clock, how many are kept, and what another version writes."""

from __future__ import annotations

from hub.limits.sharing import WAITING_MAX, SessionClaims, decode_claims, encode_claims


def test_times_are_of_the_clock_all_nodes_share() -> None:
    """Two nodes with clocks of their own name the same moment alike, to half a round trip."""
    here, there = SessionClaims(lambda: 100.0), SessionClaims(lambda: 9_000.0)
    here.set_clock(99.0, 101.0, 5_000.0)
    there.set_clock(8_999.8, 9_000.2, 5_000.1)

    assert abs(here.now() - there.now()) < 1.2


def test_claims_arrive_as_they_were_told() -> None:
    """Any text is a session's name."""
    claims = SessionClaims(lambda: 1.0)
    claims.add('"\\\r\n💥', "acme", "alice", 7.5)
    told = claims.drain()
    (heard,) = decode_claims(encode_claims("n-1", told))

    assert (heard.node, heard.session_id, heard.tenant, heard.user, heard.at) == (
        "n-1",
        '"\\\r\n💥',
        "acme",
        "alice",
        7.5,
    )
    assert claims.drain() == []


def test_what_could_not_be_told_is_told_later_and_bounded() -> None:
    """Redis away for long forgets the oldest first."""
    claims = SessionClaims(lambda: 1.0)
    for number in range(WAITING_MAX + 5):
        claims.add(str(number), "acme", "alice", 1.0)
    kept = claims.drain()
    claims.add("new", "acme", "alice", 1.0)
    claims.restore(kept)
    again = claims.drain()

    assert len(kept) == len(again) == WAITING_MAX
    assert (kept[0].session_id, again[-1].session_id) == ("5", "new")


def test_entries_of_another_version_are_passed_over() -> None:
    """A rolling update must not stop the news."""
    for data in (b"", b"{", b"[]", b'["n",[["s"]]]', b'{"v":2}', b'["n",[["s","t","u","soon"]]]', b"\xff"):
        assert decode_claims(data) == []
