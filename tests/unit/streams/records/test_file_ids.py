"""The IDs of files."""

from __future__ import annotations

from streams.channel import Channel, Kind
from streams.records.uploads import file_id_of


def test_ids_are_of_the_tenant_the_channel_and_the_event() -> None:
    """Nobody can name another's upload by guessing, and everybody derives the same."""
    places = [
        (Channel("a", Kind.TEAM, "x"), "1-0"),
        (Channel("b", Kind.TEAM, "x"), "1-0"),
        (Channel("a", Kind.AGENT, "x"), "1-0"),
        (Channel("a", Kind.TEAM, "y"), "1-0"),
        (Channel("a", Kind.TEAM, "x"), "1-1"),
    ]  # fmt: skip - a row each
    ids = [file_id_of(*place) for place in places]

    assert len(set(ids)) == 5
    assert all(len(one) == 32 and set(one) <= set("0123456789abcdef") for one in ids)
    assert ids[0] == file_id_of(*places[0])
