"""The frame decoder against the I/O-free protocol of `websockets`, on generated streams in any split.

Both get the same bytes; events and verdict (the close code) must be the same. The differences are these, each with a
test of its own at the end, and left out of the comparison:

1. A length that is not in its shortest form: we fail with 1002 (RFC 6455 section 5.2, "the minimal number of bytes MUST
   be used"); the oracle takes it.
2. A 64-bit length with its top bit set: we fail with 1002 (section 5.2, "MUST be 0"); the oracle finds it too large, 1009.
3. A Close between two fragments: we close with its code, since section 5.4 lets control frames come there; the oracle
   fails with 1002.
4. The oracle leaves UTF-8 of text to its caller, so the comparison adds it, frame by frame. We look at every byte as it
   comes: on a prefix of a stream our verdict may be there sooner, but it is the one the whole stream gets.
5. A frame that breaks two rules at once gets the code of the one found first, and that order differs.
6. The oracle holds a ping between two fragments against what the message has left of its limit, and may answer it with
   1009; the limit is about messages, so we do not.
"""

from __future__ import annotations

import codecs
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, SERVER, Protocol

from hub.websocket.codec import (
    BINARY,
    CLOSE,
    FAILED,
    PING,
    PONG,
    TEXT,
    FrameDecoder,
    close_code,
    encode_binary,
    encode_close,
    encode_pong,
    encode_text,
    split_frames,
)
from support.client_frames import client_frame, close_frame

CONTINUATION = 0x0
LIMIT = 400


Verdict = tuple[int, bytes | int]


def ours(pieces: list[bytes], limit: int = LIMIT) -> list[Verdict]:
    """Our decoder's events; a failure as its code alone, since the words of it are each one's own."""
    decoder = FrameDecoder(limit)
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return [(kind, close_code(payload) if kind == FAILED else payload) for kind, payload in events]


class Oracle:
    """`websockets`' protocol object, its frames joined to messages and its text checked."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._protocol = Protocol(SERVER, state=OPEN, max_size=limit)
        self._opcode = 0
        self._body = b""
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self.events: list[Verdict] = []

    def feed(self, data: bytes) -> list[Verdict]:
        self._protocol.receive_data(data)
        for frame in self._protocol.events_received():
            if self.events and self.events[-1][0] in (FAILED, CLOSE):
                return self.events
            assert isinstance(frame, Frame)
            self._take(int(frame.opcode), bytes(frame.data), is_final=frame.fin)
        if self._protocol.parser_exc is not None and not (self.events and self.events[-1][0] == FAILED):
            assert self._protocol.close_sent is not None
            self.events.append((FAILED, int(self._protocol.close_sent.code)))
        return self.events

    def _take(self, opcode: int, data: bytes, *, is_final: bool) -> None:
        if opcode in (Opcode.PING, Opcode.PONG, Opcode.CLOSE):
            self.events.append((opcode, data))
            return
        if opcode != Opcode.CONT:
            self._opcode, self._body = opcode, b""
            self._utf8.reset()
        self._body += data
        if self._opcode == TEXT:
            try:
                self._utf8.decode(data, is_final)
            except UnicodeDecodeError:
                self.events.append((FAILED, 1007))
                return
        if is_final:
            self.events.append((self._opcode, self._body))


def whole(data: bytes, limit: int = LIMIT) -> list[Verdict]:
    return Oracle(limit).feed(data)


# Streams: messages in fragments with control frames in between, then perhaps one frame that breaks one rule.

masks = st.binary(min_size=4, max_size=4)
broken_text = st.sampled_from(
    [
        b"\x80",
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xe2\x82",
        b"\xf0\x9f\x98",
        b"\xff",
        b"ok\xce\xba\xe1",
    ]
)
sizes = st.one_of(st.integers(0, 40), st.sampled_from([123, 124, 125, 126, 127, 128, 255, 256, LIMIT - 1, LIMIT]))
texts = st.one_of(
    st.text(max_size=40).map(str.encode),
    sizes.map(lambda size: (b"hub " * 101)[:size]),
    st.tuples(st.text(max_size=5).map(str.encode), broken_text, st.binary(max_size=3)).map(b"".join),
)
blobs = st.one_of(st.binary(max_size=60), sizes.map(bytes))
control_payloads = st.one_of(st.binary(max_size=20), st.sampled_from([b"", b"x" * 124, b"x" * 125]))


@st.composite
def controls(draw: st.DrawFn, payloads: st.SearchStrategy[bytes] = control_payloads) -> bytes:
    return client_frame(draw(st.sampled_from([PING, PONG])), draw(payloads), mask=draw(masks))


@st.composite
def messages(draw: st.DrawFn) -> list[bytes]:
    opcode = draw(st.sampled_from([TEXT, BINARY]))
    body = draw(texts if opcode == TEXT else blobs)
    cuts = [0, *sorted(draw(st.lists(st.integers(0, len(body)), max_size=4))), len(body)]
    between = control_payloads if len(body) + 125 <= LIMIT else st.just(b"")  # difference 6
    frames: list[bytes] = []
    for number, (start, stop) in enumerate(pairwise(cuts)):
        frames += draw(st.lists(controls(between), max_size=1 if number else 0))
        is_final = number == len(cuts) - 2
        kind = CONTINUATION if number else opcode
        frames.append(client_frame(kind, body[start:stop], is_final=is_final, mask=draw(masks)))
    return frames


valid_codes = st.one_of(st.sampled_from([1000, 1001, 1002, 1003, *range(1007, 1015)]), st.integers(3000, 4999))
closes = st.one_of(
    st.just(close_frame()),
    st.builds(close_frame, valid_codes, st.text(max_size=20).map(str.encode)),
    st.builds(close_frame, st.integers(0, 65_535)),
    st.builds(close_frame, valid_codes, broken_text),
    st.just(client_frame(CLOSE, b"\x03")),
)


@st.composite
def broken_frames(draw: st.DrawFn) -> bytes:
    """One frame that breaks one rule wherever it stands; its payload is there, so that the oracle gets to judge it."""
    payload = draw(st.binary(max_size=30))
    data_kind = st.sampled_from([TEXT, BINARY])
    broken: bytes = draw(
        st.one_of(
            st.builds(client_frame, st.just(PING), st.just(payload), reserved=st.integers(1, 7)),
            st.builds(client_frame, st.sampled_from([3, 4, 5, 6, 7, 11, 12, 13, 14, 15]), st.just(payload)),
            st.builds(client_frame, st.just(PONG), st.just(payload), mask=st.none()),
            st.builds(client_frame, st.just(PING), st.integers(126, 300).map(bytes)),
            st.builds(client_frame, st.sampled_from([PING, PONG]), st.just(payload), is_final=st.just(False)),
            data_kind.map(lambda kind: client_frame(kind, b"a", is_final=False) + client_frame(kind, b"b")),
            data_kind.map(lambda kind: client_frame(kind, b"a") + client_frame(CONTINUATION, b"b")),
            data_kind.map(lambda kind: client_frame(kind, b"x" * (LIMIT + 1))),
            data_kind.map(
                lambda kind: client_frame(kind, b"x" * 300, is_final=False) + client_frame(CONTINUATION, b"x" * 101)
            ),
        )
    )
    return broken


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    frames = [frame for message in draw(st.lists(messages(), max_size=5)) for frame in message]
    ending = draw(st.one_of(st.just([]), closes.map(lambda c: [c]), broken_frames().map(lambda b: [b])))
    behind = draw(st.lists(controls(), max_size=1))
    return b"".join(frames + ending + behind)


def cut(data: bytes, at: list[int]) -> list[bytes]:
    places = [0, *sorted(place % (len(data) + 1) for place in at), len(data)]
    return [data[start:stop] for start, stop in pairwise(places)]


splits = st.lists(st.integers(0, 4000), max_size=12)


@given(streams(), splits)
@example(client_frame(TEXT, b"\xe2\x82", is_final=False) + client_frame(CONTINUATION, b"\xac"), [7])
def test_any_stream_in_any_split_gives_the_oracles_events_and_verdict(stream: bytes, split: list[int]) -> None:
    """Fragments, control frames between, broken UTF-8, wrong bits, opcodes, sizes and codes: what came in is agreed on."""
    assert ours(cut(stream, split)) == whole(stream)


@given(streams())
def test_byte_by_byte_is_the_same_as_at_once(stream: bytes) -> None:
    """No event depends on where reads end."""
    assert ours([stream[at : at + 1] for at in range(len(stream))]) == ours([stream])


@given(streams(), st.integers(0, 4000))
def test_an_early_verdict_is_the_one_the_whole_stream_gets(stream: bytes, length: int) -> None:
    """Failing fast may anticipate the oracle's verdict but never changes it, and never invents an event."""
    early = ours([stream[: length % (len(stream) + 1)]])

    assert early == whole(stream)[: len(early)]


@given(st.lists(st.binary(min_size=1, max_size=12), max_size=8))
def test_any_bytes_at_all_are_taken_or_refused(pieces: list[bytes]) -> None:
    """Noise ends in events, silence or one documented code, and nothing comes after that."""
    events = ours(pieces)

    assert all(kind in (TEXT, BINARY, PING, PONG, CLOSE, FAILED) for kind, _ in events)
    assert all(kind not in (CLOSE, FAILED) for kind, _ in events[:-1])
    assert all(value in (1002, 1007, 1009) for kind, value in events if kind == FAILED)


@given(
    st.sampled_from([TEXT, BINARY]), st.sampled_from([0, 1, 125, 126, 127, 1019, 1020, 1021, 65_535, 65_536, 65_537])
)
def test_all_length_forms_round_the_borders(opcode: int, size: int) -> None:
    """7, 16 and 64 bits, on both sides of every border and of our fast path's."""
    stream = client_frame(opcode, b"x" * size) + client_frame(PING, b"after")

    assert ours([stream], limit=1 << 20) == whole(stream, limit=1 << 20) == [(opcode, b"x" * size), (PING, b"after")]


@given(st.sampled_from([TEXT, BINARY]), st.integers(LIMIT + 1, 2**63 - 1), st.integers(0, 14))
def test_too_large_is_known_from_the_head(opcode: int, declared: int, kept: int) -> None:
    """1009 as soon as the length is read: not one byte of the payload is waited for."""
    head = client_frame(opcode, declared=declared, mask=b"")

    assert ours([head]) == whole(head) == [(FAILED, 1009)]
    assert ours([head[:kept]]) in ([], [(FAILED, 1009)])


@given(st.sampled_from([TEXT, BINARY, PONG]), st.binary(max_size=125))
def test_what_we_encode_the_oracles_client_reads(opcode: int, payload: bytes) -> None:
    """Our frames are the ones `websockets` would write."""
    encode = {TEXT: encode_text, BINARY: encode_binary, PONG: encode_pong}[opcode]
    frame = encode(payload)

    assert frame == Frame(Opcode(opcode), payload).serialize(mask=False)
    assert split_frames(frame + frame) == [(opcode, payload)] * 2


@given(valid_codes, st.text(max_size=200))
def test_close_reasons_are_cut_at_a_character(code: int, reason: str) -> None:
    """At most 123 bytes, still UTF-8, still a beginning of what was said."""
    [(opcode, payload)] = split_frames(encode_close(code, reason))

    assert opcode == CLOSE
    assert len(payload) <= 125
    assert reason.startswith(payload[2:].decode())


class TestDocumentedDifferences:
    """The numbers are those of this file's head."""

    def test_lengths_not_in_shortest_form(self) -> None:
        """1: five bytes announced in 16 or 64 bits, 200 in 64."""
        for size, bits in ((5, 16), (5, 64), (125, 16), (200, 64), (0, 16)):
            stream = client_frame(TEXT, b"x" * size, length_bits=bits)

            assert ours([stream]) == [(FAILED, 1002)]
            assert whole(stream) == [(TEXT, b"x" * size)]

    def test_top_bit_of_64(self) -> None:
        """2: a length of 2^63 and more."""
        head = client_frame(BINARY, declared=2**63, mask=b"")

        assert ours([head]) == [(FAILED, 1002)]
        assert whole(head) == [(FAILED, 1009)]

    def test_close_between_fragments(self) -> None:
        """3: a peer may leave in the middle of its own message."""
        stream = client_frame(TEXT, b"half", is_final=False) + close_frame(1001)

        assert ours([stream]) == [(CLOSE, (1001).to_bytes(2, "big"))]
        assert whole(stream) == [(FAILED, 1002)]

    def test_bad_text_fails_inside_the_frame(self) -> None:
        """4: the rest of the frame need not come."""
        start = client_frame(TEXT, b"\xce\xba\xf4\x90" + b"x" * 200)[:12]

        assert ours([start]) == [(FAILED, 1007)]
        assert whole(start) == []

    def test_two_rules_broken_at_once(self) -> None:
        """5: too large and reserved bits set: we name the bits, found two bytes in."""
        stream = client_frame(TEXT, b"x" * (LIMIT + 1), reserved=1)

        assert ours([stream]) == [(FAILED, 1002)]
        assert whole(stream) == [(FAILED, 1009)]

    def test_ping_between_fragments_of_a_nearly_full_message(self) -> None:
        """6: the ping is answered, the message arrives."""
        stream = client_frame(TEXT, b"x" * 300, is_final=False) + client_frame(PING, b"x" * 120)
        stream += client_frame(CONTINUATION, b"x" * 100)

        assert ours([stream]) == [(PING, b"x" * 120), (TEXT, b"x" * LIMIT)]
        assert whole(stream) == [(FAILED, 1009)]
