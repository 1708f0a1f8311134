"""A page of the script becomes the same lines with and without an object for each event."""

from __future__ import annotations

from zlib import crc32

from hypothesis import given
from hypothesis import strategies as st

from streams.redis.replay import _packed_entries, _packed_page
from streams.wire_page import WirePage

PATH, WIRE = b"acme:conversation:1", b"conversation:1"
SEED = crc32(PATH + b"\n")

metas = st.sampled_from([b"{}", b'{"re":"c-1"}'])
faults = st.sampled_from(["", "", "", "", "no checksum", "wrong checksum", "no number", "a hole"])


@st.composite
def pages(draw: st.DrawFn) -> list[bytes | None]:
    """A page as scripts/page.lua gives it: mostly whole, with what damage and foreign hands leave."""
    seq, raw = draw(st.integers(0, 3)), list[bytes | None]()
    for number in range(draw(st.integers(0, 6))):
        fault = draw(faults)
        seq += 2 if fault == "a hole" else 1
        under = b"\n".join((b"chat.message", b"1", b'{"kind":"user","id":"a"}', draw(metas), b'{"text":"%d"}' % number))
        checksum = crc32(under, SEED) + (fault == "wrong checksum")
        raw += [
            b"%d-0" % (number + 1),
            b"x" if fault == "no number" else b"%d" % seq,
            None if fault == "no checksum" else b"%d" % checksum,
            under,
        ]
    return raw


@given(pages())
def test_both_make_the_same_page(raw: list[bytes | None]) -> None:
    """Up to the first hole or damaged event, whose seq is told where it is the first."""
    assert _packed_page(raw, PATH, WIRE) == WirePage.of(_packed_entries(raw, PATH), WIRE)
