"""Compression without context takeover, by section of RFC 7692."""

from __future__ import annotations

import hashlib
import tracemalloc
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import PayloadTooBig, ProtocolError
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode

from hub.websocket.codec import (
    BINARY,
    CLOSE,
    FAILED,
    FEED_BYTES_MAX,
    PING,
    TEXT,
    FrameDecoder,
    FrameEvent,
    TooLarge,
    close_code,
    encode_text,
    inflate,
    split_frames,
)
from hub.websocket.deflate import DEFLATE_FROM_BYTES, DEFLATE_UP_TO_BYTES, answer_to, deflate_text
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
            b"permessage-deflate; server_max_window_bits=9, permessage-deflate; server_max_window_bits=15",
            b"x-webkit-deflate-frame, permessage-deflate; server_max_window_bits=9, permessage-deflate",
        ],
    )
    def test_offers_that_suit(self, offer: bytes) -> None:
        """Any that lets us keep no context and our one window; of several, one is enough."""
        answer = answer_to(offer)
        assert answer is not None
        assert {b"server_no_context_takeover", b"client_no_context_takeover"} <= set(answer.split(b"; "))
        assert (b"server_max_window_bits=15" in answer) == (b"server_max_window_bits=15" in offer)

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
        assert answer_to(offer) is None


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

    @pytest.mark.parametrize("limit_bytes", [131_072, 1_048_576])
    @pytest.mark.parametrize("size_bytes", [1 << 20, 1 << 26])
    def test_a_bomb_costs_the_limit_and_no_more(self, limit_bytes: int, size_bytes: int) -> None:
        """At most 64 KiB beyond it, zlib's own window included, whatever it would have grown to."""
        wire = squeezed(bytes(size_bytes + 1))
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        with pytest.raises(TooLarge):
            inflate(wire, limit_bytes)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

        assert peak - before <= limit_bytes + 65_536

    def test_one_read_inflates_a_bounded_part_at_a_time(self) -> None:
        """A hundred messages of a megabyte come in a hundred kilobytes; they are handed out as the reader asks for more."""
        plain = bytes(200_000)
        frame = client_frame(BINARY, squeezed(plain), reserved=4)
        decoder = FrameDecoder(1 << 20, is_deflate=True)

        events = decoder.feed(frame * 100 + client_frame(PING, b"last"))
        rounds = [len(events)]
        while decoder.has_more:
            events = decoder.feed(b"")
            rounds.append(len(events))

        assert rounds == [FEED_BYTES_MAX // len(plain) + 1] * 50 + [1]
        assert events == [(PING, b"last")]

    def test_what_is_thrown_away_is_not_inflated(self) -> None:
        """Once we have closed, only the peer's Close counts, and it may stand behind a hundred bombs."""
        decoder = FrameDecoder(LIMIT, is_deflate=True)
        decoder.discard()

        bomb = client_frame(BINARY, squeezed(bytes(1 << 20)), reserved=4)
        events = decoder.feed(bomb * 100 + client_frame(CLOSE, b"\x03\xe8"))

        assert events == [(BINARY, b"")] * 100 + [(CLOSE, b"\x03\xe8")]
        assert not decoder.has_more

    def test_a_stream_ends_with_the_message(self) -> None:
        """Bytes behind a final block are another message's, or nobody's: they are not passed over."""
        final = bytes.fromhex("f348cdc9c9070000")

        assert verdict(client_frame(TEXT, final + b"more", reserved=4)) == 1002
        assert verdict(client_frame(TEXT, final + squeezed(b"more"), reserved=4)) == 1002

    @given(st.lists(st.binary(max_size=300), min_size=1, max_size=5), st.booleans())
    def test_fragments_of_an_independent_client(self, parts: list[bytes], is_text: bool) -> None:
        """`websockets` compresses fragment by fragment, with the bit on the first of them alone."""
        texts = [part.hex().encode() for part in parts] if is_text else parts
        extension = PerMessageDeflate(True, True, 15, 15)
        wire = b""
        for number, part in enumerate(texts):
            is_final = number == len(texts) - 1
            opcode = Opcode.CONT if number else Opcode.TEXT if is_text else Opcode.BINARY
            frame = extension.encode(Frame(opcode, part, fin=is_final))
            wire += client_frame(int(opcode), bytes(frame.data), reserved=4 if frame.rsv1 else 0, is_final=is_final)

        assert decode(wire) == [(TEXT if is_text else BINARY, b"".join(texts))]

    @given(st.binary(max_size=3 * LIMIT), st.data())
    def test_damaged_data_is_judged_as_by_an_independent_server(self, plain: bytes, data: st.DataObject) -> None:
        """The same message, or a refusal by both. We refuse besides what stands behind a final block."""
        wire = bytearray(squeezed(plain))
        for _ in range(data.draw(st.integers(0, 3))):
            wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
        frame = Frame(Opcode.BINARY, bytes(wire), rsv1=True)
        theirs: bytes | None = None
        with suppress(ProtocolError, PayloadTooBig):
            theirs = bytes(PerMessageDeflate(True, True, 15, 15).decode(frame, max_size=LIMIT).data)

        [(kind, payload)] = decode(client_frame(BINARY, bytes(wire), reserved=4))
        if theirs is None:
            assert kind == FAILED
            assert close_code(payload) in (1002, 1009)
        else:
            assert (kind, payload) == (BINARY, theirs) or b"deflate stream" in payload

    @given(st.binary(max_size=70_000), st.integers(1, 9), st.integers(9, 15))
    def test_any_level_and_window_inflates(self, plain: bytes, level: int, bits: int) -> None:
        """At the limit and not a byte below it."""
        squeezer = zlib.compressobj(level, wbits=-bits)
        wire = (squeezer.compress(plain) + squeezer.flush(zlib.Z_SYNC_FLUSH))[:-4]

        assert inflate(wire, len(plain)) == plain
        if plain:
            with pytest.raises(TooLarge):
                inflate(wire, len(plain) - 1)

    def test_what_does_not_inflate(self) -> None:
        """Is a protocol error, and broken text is broken text."""
        assert verdict(client_frame(BINARY, b"\xff\xff\xff", reserved=4)) == 1002
        assert verdict(client_frame(TEXT, squeezed(b"\xff"), reserved=4)) == 1007


class TestSending:
    """Section 6.1 and 7.2.1."""

    @pytest.mark.parametrize("size", [0, 1, DEFLATE_FROM_BYTES - 1, DEFLATE_UP_TO_BYTES + 1])
    def test_short_and_very_long_messages_go_as_they_are(self, size: int) -> None:
        """They gain little, or hold everybody up."""
        assert deflate_text(b"x" * size) == encode_text(b"x" * size)

    @pytest.mark.parametrize("size", [DEFLATE_FROM_BYTES, 4_096, 4_097, 70_000, DEFLATE_UP_TO_BYTES])
    def test_those_between_are_compressed(self, size: int) -> None:
        """The first bit reserved for extensions says so, and the rest is an ordinary frame."""
        plain = (LONG * (size // len(LONG) + 1))[:size]

        frame = deflate_text(plain)

        assert frame[0] == 0xC1
        [(opcode, wire)] = split_frames(frame)
        assert opcode == TEXT
        assert inflate(wire, size) == plain
        assert len(wire) < size / 4

    def test_random_text_goes_as_it_is(self) -> None:
        """A frame is never longer for being compressed."""
        noise = bytes(32 + value % 95 for value in hashlib.shake_128(b"seed").digest(40_000))
        packed = zlib.compress(noise)  # no text, but what cannot be compressed once more

        assert deflate_text(packed) == encode_text(packed)

    @given(st.text(min_size=200, max_size=3000), st.integers(1, 20))
    def test_an_independent_client_inflates_it(self, text: str, times: int) -> None:
        """`websockets` reads every frame, long or short, as it was, with one window after another."""
        payload = (text * times).encode()
        written = deflate_text(payload)
        [(_, wire)] = split_frames(written)
        extension = PerMessageDeflate(True, True, 15, 15)

        frame = extension.decode(Frame(Opcode.TEXT, wire, rsv1=bool(written[0] & 0x40)))

        assert bytes(frame.data) == payload
