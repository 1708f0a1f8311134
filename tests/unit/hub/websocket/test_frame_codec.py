"""The frame codec, by section of RFC 6455. The oracle test has the combinations; here is each rule once, by name."""

from __future__ import annotations

import sys

import pytest

from hub.websocket.codec import (
    BINARY,
    CLOSE,
    FAILED,
    FEED_MESSAGES_MAX,
    PING,
    PONG,
    TEXT,
    FrameDecoder,
    FrameEvent,
    close_code,
    close_payload,
    echo_close,
    encode_binary,
    encode_close,
    encode_pong,
    encode_text,
    frame_close,
    may_be_sent,
    split_frames,
    unmask,
)
from support.client_frames import client_frame, close_frame

CONTINUATION = 0x0
LIMIT = 70_000


def decode(*pieces: bytes, limit: int = LIMIT) -> list[FrameEvent]:
    decoder = FrameDecoder(limit)
    return [event for piece in pieces for event in decoder.feed(piece)]


def verdict(*pieces: bytes, limit: int = LIMIT) -> int:
    """The code the connection fails with; what came before it does not count."""
    kind, payload = decode(*pieces, limit=limit)[-1]
    assert kind == FAILED
    return close_code(payload)


class TestBaseFraming:
    """Section 5.2."""

    def test_the_examples_of_section_5_7(self) -> None:
        """The masked Hello of the specification, whole and in one-byte reads."""
        hello = bytes.fromhex("818537fa213d7f9f4d5158")

        assert decode(hello) == [(TEXT, b"Hello")]
        assert decode(*(hello[at : at + 1] for at in range(len(hello)))) == [(TEXT, b"Hello")]

    def test_several_frames_in_one_read(self) -> None:
        """All of them come out of the one call, in order."""
        frames = client_frame(TEXT, b"a") + client_frame(PING, b"b") + client_frame(BINARY, b"c") + client_frame(TEXT)

        assert decode(frames) == [(TEXT, b"a"), (PING, b"b"), (BINARY, b"c"), (TEXT, b"")]

    @pytest.mark.parametrize("reserved", [1, 2, 3, 4, 7])
    def test_reserved_bits(self, reserved: int) -> None:
        """No extension was agreed on, so RSV1 to RSV3 are 0."""
        assert verdict(client_frame(TEXT, b"x", reserved=reserved)) == 1002

    @pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
    def test_reserved_opcodes(self, opcode: int) -> None:
        """An unknown opcode fails the connection, data and control alike."""
        assert verdict(client_frame(opcode)) == 1002

    @pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 1020, 1021, 65_535, 65_536, LIMIT])
    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    def test_the_three_length_forms(self, opcode: int, size: int) -> None:
        """Both sides of each border arrive whole, and leave what follows in step."""
        frames = client_frame(opcode, b"x" * size) + client_frame(PING)

        assert decode(frames) == [(opcode, b"x" * size), (PING, b"")]

    @pytest.mark.parametrize(("size", "bits"), [(0, 16), (5, 16), (125, 16), (5, 64), (126, 64), (65_535, 64)])
    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    def test_lengths_not_in_shortest_form(self, opcode: int, size: int, bits: int) -> None:
        """The minimal number of bytes must be used."""
        assert verdict(client_frame(opcode, b"x" * size, length_bits=bits)) == 1002

    def test_top_bit_of_a_64_bit_length(self) -> None:
        """It must be 0; no such length is ever waited for."""
        assert verdict(client_frame(BINARY, declared=2**63, mask=b"")) == 1002

    @pytest.mark.parametrize("size", [5, 126, 65_536])
    def test_head_byte_by_byte(self, size: int) -> None:
        """Every length form may be cut anywhere."""
        frame = client_frame(BINARY, b"x" * size)

        assert decode(*(frame[at : at + 1] for at in range(14)), frame[14:]) == [(BINARY, b"x" * size)]

    def test_head_in_two_reads(self) -> None:
        """A rule broken by the first two bytes is found with them, not with the payload."""
        assert verdict(client_frame(3, b"x" * 100)[:2]) == 1002
        assert decode(client_frame(3, b"x")[:1]) == []


class TestMasking:
    """Section 5.1 and 5.3."""

    @pytest.mark.parametrize("opcode", [TEXT, BINARY, PING, CLOSE])
    def test_unmasked_client_frames(self, opcode: int) -> None:
        """A server must close on a frame that is not masked."""
        assert verdict(client_frame(opcode, b"", mask=None)) == 1002

    @pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 1019, 1020, 1021, 32_767, 32_768, 40_001])
    def test_unmasking_is_an_xor(self, size: int) -> None:
        """Each of the ways to do it (small, large, by lane) agrees with the definition."""
        payload, mask = bytes(range(256)) * (size // 256 + 1), b"\x00\xff\x37\xa1"

        plain = unmask(payload[:size], mask)

        assert plain == bytes(byte ^ mask[at & 3] for at, byte in enumerate(payload[:size]))

    def test_the_mask_goes_on_across_reads(self) -> None:
        """Reads end anywhere; the mask's phase is kept."""
        frame = client_frame(BINARY, bytes(range(256)) * 8)

        assert decode(*(frame[at : at + 7] for at in range(0, len(frame), 7))) == [(BINARY, bytes(range(256)) * 8)]


class TestFragmentation:
    """Section 5.4."""

    def test_fragments_are_one_message(self) -> None:
        """Also empty ones."""
        frames = [
            client_frame(TEXT, b"one ", is_final=False),
            client_frame(CONTINUATION, b"", is_final=False),
            client_frame(CONTINUATION, b"two", is_final=True),
        ]

        assert decode(*frames) == decode(b"".join(frames)) == [(TEXT, b"one two")]

    def test_control_frames_come_in_between(self) -> None:
        """They are answered at once, before the message is whole."""
        frames = client_frame(BINARY, b"a", is_final=False) + client_frame(PING, b"p") + client_frame(PONG, b"q")

        assert decode(frames) == [(PING, b"p"), (PONG, b"q")]
        assert decode(frames, client_frame(CONTINUATION, b"b"))[2:] == [(BINARY, b"ab")]

    def test_continuation_of_nothing(self) -> None:
        """A continuation needs a message that began."""
        assert verdict(client_frame(CONTINUATION, b"x")) == 1002
        assert verdict(client_frame(TEXT, b"x"), client_frame(CONTINUATION, b"x")) == 1002

    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    def test_message_within_a_message(self, opcode: int) -> None:
        """Fragments of one message are not interleaved with another message."""
        assert verdict(client_frame(TEXT, b"x", is_final=False), client_frame(opcode, b"x")) == 1002

    def test_a_close_may_come_in_between(self) -> None:
        """A peer may leave in the middle of its own message."""
        assert decode(client_frame(TEXT, b"x", is_final=False) + close_frame(1001))[-1] == (CLOSE, b"\x03\xe9")

    def test_65_536_fragments_take_linear_memory(self) -> None:
        """Fragments are joined as they come: no list of pieces, no copy of all for each."""
        decoder = FrameDecoder(1 << 20)
        decoder.feed(client_frame(BINARY, b"", is_final=False))
        middle = client_frame(CONTINUATION, b"0123456789abcdef", is_final=False)

        for _ in range(65_535):
            assert decoder.feed(middle) == []

        [(kind, message)] = decoder.feed(client_frame(CONTINUATION, b"0123456789abcdef"))
        assert (kind, message) == (BINARY, b"0123456789abcdef" * 65_536)


class TestControlFrames:
    """Section 5.5."""

    @pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
    def test_too_long_or_fragmented(self, opcode: int) -> None:
        """At most 125 bytes, never in fragments; found in the head."""
        assert verdict(client_frame(opcode, b"x" * 126)[:2]) == 1002
        assert verdict(client_frame(opcode, b"", is_final=False)) == 1002

    def test_they_come_whole(self) -> None:
        """125 bytes of payload in any split."""
        ping = client_frame(PING, b"x" * 125)

        assert decode(*(ping[at : at + 1] for at in range(len(ping)))) == [(PING, b"x" * 125)]

    def test_they_do_not_count_against_the_message_limit(self) -> None:
        """A limit of ten bytes concerns messages."""
        assert decode(client_frame(PING, b"x" * 100), limit=10) == [(PING, b"x" * 100)]


class TestClose:
    """Section 5.5.1, 7.1.5, 7.4."""

    def test_with_and_without_a_code(self) -> None:
        """Empty is allowed and reads as 1005."""
        assert decode(close_frame()) == [(CLOSE, b"")]
        assert close_code(b"") == 1005
        assert decode(close_frame(4123, "müde".encode())) == [(CLOSE, b"\x10\x1bm\xc3\xbcde")]

    @pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999])
    def test_codes_that_may_be_sent(self, code: int) -> None:
        """Registered ones, and 3000 to 4999."""
        assert decode(close_frame(code)) == [(CLOSE, code.to_bytes(2, "big"))]

    @pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535])
    def test_codes_that_must_not(self, code: int) -> None:
        """Reserved, internal or unassigned: refused when it comes, and never encoded."""
        assert verdict(close_frame(code)) == 1002
        assert not may_be_sent(code)
        with pytest.raises(ValueError, match="must not be sent"):
            encode_close(code)

    def test_half_a_code(self) -> None:
        """One byte is neither nothing nor a code."""
        assert verdict(client_frame(CLOSE, b"\x03")) == 1002

    def test_reason_is_utf8(self) -> None:
        """A reason that is not is a 1007."""
        assert verdict(close_frame(1000, b"\xff")) == 1007

    def test_nothing_is_read_after_it(self) -> None:
        """Neither in the same read nor later; nor after a failure."""
        for last in (close_frame(1000), client_frame(3)):
            decoder = FrameDecoder(LIMIT)

            assert len(decoder.feed(last + client_frame(TEXT, b"late"))) == 1
            assert decoder.feed(client_frame(TEXT, b"later")) == []

    def test_the_answer(self) -> None:
        """The same code comes back, without the reason; an empty one is answered empty."""
        assert echo_close(b"\x03\xe8bye") == b"\x88\x02\x03\xe8"
        assert echo_close(b"") == b"\x88\x00"

    def test_reason_is_cut_to_123_bytes_at_a_character(self) -> None:
        """61 two-byte letters and not half of the 62nd."""
        assert close_payload(4001, "é" * 80) == b"\x0f\xa1" + "é".encode() * 61
        assert len(encode_close(1000, "x" * 200)) == 127


class TestUtf8:
    """Section 8.1."""

    @pytest.mark.parametrize(
        "text", [b"\x80", b"\xc0\xaf", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80", b"\xff"]
    )
    def test_bad_text(self, text: bytes) -> None:
        """Stray, overlong, cut off, surrogate, beyond U+10FFFF: whole, in fragments or in reads, it is 1007."""
        frame = client_frame(TEXT, b"ok " + text)

        assert verdict(frame) == 1007
        assert verdict(*(frame[at : at + 1] for at in range(len(frame)))) == 1007
        assert verdict(client_frame(TEXT, b"ok", is_final=False), client_frame(CONTINUATION, text)) == 1007
        assert decode(client_frame(BINARY, text)) == [(BINARY, text)]

    def test_bad_text_is_found_before_the_message_ends(self) -> None:
        """In the first fragment that cannot be right, even in the middle of its frame."""
        start = client_frame(TEXT, b"\xce\xba\xf4\x90" + b"x" * 100)

        assert verdict(client_frame(TEXT, b"\xce\xba\xf4\x90", is_final=False)) == 1007
        assert verdict(start[:10]) == 1007

    def test_characters_may_be_cut_by_fragments(self) -> None:
        """Fragments end anywhere, in the middle of a character too."""
        text = "κόσμε 🙂".encode()
        frames = [
            client_frame(CONTINUATION if at else TEXT, text[at : at + 1], is_final=False) for at in range(len(text))
        ]

        assert decode(*frames, client_frame(CONTINUATION)) == [(TEXT, text)]

    def test_a_character_that_never_ends(self) -> None:
        """The last fragment ends the text."""
        assert verdict(client_frame(TEXT, b"\xe2\x82", is_final=False), client_frame(CONTINUATION)) == 1007


class TestMessageSizeLimit:
    """Section 10.4 and 7.4.1 (1009)."""

    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    @pytest.mark.parametrize("limit", [0, 10, 125, 126, 5000])
    def test_the_limit_itself_is_allowed(self, opcode: int, limit: int) -> None:
        """One byte more is not."""
        assert decode(client_frame(opcode, b"x" * limit), limit=limit) == [(opcode, b"x" * limit)]
        assert verdict(client_frame(opcode, b"x" * (limit + 1)), limit=limit) == 1009

    def test_decided_from_the_head(self) -> None:
        """No byte of the payload, not even the mask, needs to be there."""
        assert verdict(client_frame(BINARY, declared=2**62, mask=b""), limit=1 << 20) == 1009

    def test_fragments_add_up(self) -> None:
        """The message counts, not the frame."""
        first = client_frame(TEXT, b"x" * 6, is_final=False)

        assert verdict(first, client_frame(CONTINUATION, b"x" * 5)[:6], limit=10) == 1009
        assert decode(first, client_frame(CONTINUATION, b"x" * 4), limit=10) == [(TEXT, b"x" * 10)]


class TestEncoding:
    """Section 5.1: a server's frames are not masked."""

    @pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
    def test_every_length_form(self, size: int) -> None:
        """The shortest form, and what is split again is what was joined."""
        payload = b"x" * size
        head = {0: b"\x81\x00", 1: b"\x81\x01", 125: b"\x81\x7d", 126: b"\x81\x7e\x00\x7e"}
        head |= {65_535: b"\x81\x7e\xff\xff", 65_536: b"\x81\x7f\0\0\0\0\0\x01\0\0"}

        assert encode_text(payload) == head[size] + payload
        assert encode_binary(payload)[:1] == b"\x82"
        assert encode_binary(payload)[1:] == encode_text(payload)[1:]
        assert split_frames(encode_text(payload) + encode_binary(payload)) == [(TEXT, payload), (BINARY, payload)]

    def test_control_frames(self) -> None:
        """125 bytes and no more."""
        assert split_frames(encode_pong(b"a") + encode_pong() + frame_close(b"\x03\xe8")) == [
            (PONG, b"a"), (PONG, b""), (CLOSE, b"\x03\xe8"),
        ]  # fmt: skip # a table
        with pytest.raises(ValueError, match="125"):
            encode_pong(b"x" * 126)

    @pytest.mark.parametrize(
        "frames", [b"\x81", b"\x81\x05abc", b"\x01\x01a", b"\x81\x7e\x00", b"\x81\x7f\0\0", client_frame(TEXT, b"abc")]
    )
    def test_splitting_what_is_not_ours(self, frames: bytes) -> None:
        """Cut off, fragmented or masked bytes are a mistake of the caller."""
        with pytest.raises(ValueError, match="server frames"):
            split_frames(encode_text(b"fine") + frames)


class TestMemory:
    """The memory that ten thousand idle sockets pay for."""

    def test_an_idle_decoder_is_one_small_object(self) -> None:
        """No dictionary, no buffer: also after it has been used."""
        decoder = FrameDecoder(LIMIT)
        decoder.feed(client_frame(TEXT, b"x" * 50_000, is_final=False))
        decoder.feed(client_frame(CONTINUATION, b"y"))

        assert not hasattr(decoder, "__dict__")
        assert sys.getsizeof(decoder) <= 96
        assert [getattr(decoder, name) for name in ("_held", "_message")] == [b"", None]


class TestManyMessages:
    """A read of thousands of small messages is decoded in parts, so that the receiver can leave the loop to others."""

    def test_a_feed_returns_a_few_and_the_next_one_goes_on(self) -> None:
        """Nothing is lost or overtaken, and bytes that arrive later come last."""
        decoder, texts = FrameDecoder(LIMIT), [f"m{number}".encode() for number in range(100)]
        parts = [decoder.feed(b"".join(client_frame(TEXT, text) for text in texts[:90]))]
        parts.append(decoder.feed(b"".join(client_frame(TEXT, text) for text in texts[90:])))
        while decoder.has_more:
            parts.append(decoder.feed(b""))

        assert max(map(len, parts)) == FEED_MESSAGES_MAX
        assert [event for part in parts for event in part] == [(TEXT, text) for text in texts]

    def test_a_receiver_that_has_closed_gets_the_rest_at_once(self) -> None:
        """Only the peer's Close matters then."""
        decoder = FrameDecoder(LIMIT)
        decoder.feed(client_frame(TEXT, b"x") * 100 + close_frame(1000))
        decoder.discard()

        assert decoder.feed(b"")[-1][0] == CLOSE
