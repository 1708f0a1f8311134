"""Compression without context takeover, by section of RFC 7692."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode

from hub.websocket.codec import (
    BINARY,
    FAILED,
    PING,
    PONG,
    TEXT,
    FrameDecoder,
    FrameEvent,
    TooLarge,
    close_code,
    encode_binary,
    encode_pong,
    encode_text,
    inflate,
    split_frames,
)
from hub.websocket.deflate import _shared, accepts, deflate_frames
from support.client_frames import client_frame

CONTINUATION = 0x0
LIMIT = 10_000
LONG = b'{"type":"chat.message","payload":{"text":"' + b"all the same words " * 60 + b'"}}'


def squeezed(plain: bytes) -> bytes:
    """A message as a client compresses it."""
    squeezer = zlib.compressobj(wbits=-15)
    return (squeezer.compress(plain) + squeezer.flush(zlib.Z_SYNC_FLUSH))[:-4]


def decode(*frames: bytes, is_deflate: bool = True) -> list[FrameEvent]:
    decoder = FrameDecoder(LIMIT, is_deflate=is_deflate)
    return [event for frame in frames for event in decoder.feed(frame)]


def verdict(*frames: bytes, is_deflate: bool = True) -> int:
    kind, payload = decode(*frames, is_deflate=is_deflate)[-1]
    assert kind == FAILED
    return close_code(payload)


class TestNegotiation:
    """Section 5 and 7.1."""

    @pytest.mark.parametrize(
        "offer",
        [
            b"permessage-deflate",
            b"permessage-deflate; client_max_window_bits",
            b"permessage-deflate; client_no_context_takeover; server_no_context_takeover",
            b'permessage-deflate; client_max_window_bits="10"; server_max_window_bits=15',
            b"x-webkit-deflate-frame, permessage-deflate; server_max_window_bits=9, permessage-deflate",
        ],
    )
    def test_offers_that_suit(self, offer: bytes) -> None:
        """Any that lets us keep no context and our one window; of several, one is enough."""
        assert accepts(offer)

    @pytest.mark.parametrize(
        "offer",
        [
            b"",
            b"permessage-bzip2",
            b"permessage-deflate; server_max_window_bits=10",
            b"permessage-deflate; server_no_context_takeover=1",
            b"permessage-deflate; client_max_window_bits=7",
            b"permessage-deflate; client_max_window_bits; client_max_window_bits",
            b"permessage-deflate; new_word",
        ],
    )
    def test_offers_that_are_declined(self, offer: bytes) -> None:
        """A smaller window for what is compressed once for all, and whatever section 7.1 does not know."""
        assert not accepts(offer)


class TestReceiving:
    """Section 6.2 and 7.2.2."""

    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    @pytest.mark.parametrize("plain", [b"", b"Hello", LONG])
    def test_compressed_messages(self, opcode: int, plain: bytes) -> None:
        """Whole, in fragments and in one-byte reads; compression may change from message to message."""
        wire = squeezed(plain)
        whole = client_frame(opcode, wire, reserved=4)
        half = len(wire) // 2
        fragments = client_frame(opcode, wire[:half], reserved=4, is_final=False) + client_frame(
            CONTINUATION, wire[half:]
        )

        assert decode(whole + client_frame(TEXT, b"as it is") + fragments) == [
            (opcode, plain), (TEXT, b"as it is"), (opcode, plain),
        ]  # fmt: skip # a table
        assert decode(*(whole[at : at + 1] for at in range(len(whole)))) == [(opcode, plain)]

    def test_the_example_of_section_7_2_3_4(self) -> None:
        """A final block, as some implementations end their messages."""
        assert decode(client_frame(TEXT, bytes.fromhex("f348cdc9c9070000"), reserved=4)) == [(TEXT, b"Hello")]

    def test_where_the_bit_may_stand(self) -> None:
        """On the first frame of a message, if it was agreed on; never on others, never RSV2 or RSV3."""
        wire = squeezed(b"x")

        assert verdict(client_frame(TEXT, wire, reserved=4), is_deflate=False) == 1002
        assert verdict(client_frame(PING, b"x", reserved=4)) == 1002
        assert verdict(client_frame(TEXT, b"", is_final=False), client_frame(CONTINUATION, wire, reserved=4)) == 1002
        for reserved in (1, 2, 5, 6):
            assert verdict(client_frame(TEXT, wire, reserved=reserved)) == 1002

    def test_limit_is_of_the_inflated_message(self) -> None:
        """A megabyte of zeros in a kilobyte is refused, and not inflated to find out."""
        assert decode(client_frame(BINARY, squeezed(bytes(LIMIT)), reserved=4)) == [(BINARY, bytes(LIMIT))]
        assert verdict(client_frame(BINARY, squeezed(bytes(LIMIT + 1)), reserved=4)) == 1009
        with pytest.raises(TooLarge):
            inflate(squeezed(bytes(1 << 20)), 10)

    def test_what_does_not_inflate(self) -> None:
        """Is a protocol error, and broken text is broken text."""
        assert verdict(client_frame(BINARY, b"\xff\xff\xff", reserved=4)) == 1002
        assert verdict(client_frame(TEXT, squeezed(b"\xff"), reserved=4)) == 1007


class TestSending:
    """Section 6.1 and 7.2.1."""

    def test_only_long_text_is_compressed(self) -> None:
        """Everything else in the same write stays as it was, in order."""
        frames = [encode_text(b"short"), encode_text(LONG), encode_binary(LONG), encode_pong(b"p"), encode_text(LONG)]

        written = deflate_frames(b"".join(frames))

        assert [opcode for opcode, _ in split_frames(written)] == [TEXT, TEXT, BINARY, PONG, TEXT]
        payloads = [payload for _, payload in split_frames(written)]
        assert [payloads[0], payloads[2], payloads[3]] == [b"short", LONG, b"p"]
        assert [inflate(payload, LIMIT) for payload in (payloads[1], payloads[4])] == [LONG, LONG]
        assert len(payloads[1]) < len(LONG) / 4

    def test_short_writes_are_not_touched(self) -> None:
        """The same object comes back: nothing is parsed or copied."""
        frames = encode_text(b"x" * 100) * 4

        assert deflate_frames(frames) is frames

    def test_one_compression_serves_all(self) -> None:
        """The same payload, however it is joined with others, is compressed once."""
        before = _shared.cache_info()
        for number in range(1000):
            deflate_frames(encode_text(LONG + b" once ") + encode_text(b"%d" % number))

        after = _shared.cache_info()
        assert (after.misses - before.misses, after.hits - before.hits) == (1, 999)

    @given(st.text(min_size=200, max_size=3000), st.integers(1, 20))
    def test_an_independent_client_inflates_it(self, text: str, times: int) -> None:
        """`websockets` reads every frame, long or short, as it was."""
        payload = (text * times).encode()
        written = deflate_frames(encode_text(payload))
        [(_, wire)] = split_frames(written)
        extension = PerMessageDeflate(True, True, 15, 15)

        frame = extension.decode(Frame(Opcode.TEXT, wire, rsv1=bool(written[0] & 0x40)))

        assert bytes(frame.data) == payload
