"""Laws of the upload core: plans cover the file, chunks fill it exactly once, states only move forward."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.storage.store import composite, decode_digest, encode_digest, sha256_of
from hub.uploads.chunks import HEAD, Chunk, ChunkVerdict, MalformedChunk, decode_binary, encode_binary, judge, slices
from hub.uploads.content_types import detect
from hub.uploads.limits import UploadLimits, name_problem
from streams.channel import Channel, Kind
from streams.records.uploads import (
    COMES_FROM,
    FINAL,
    MIB,
    PART_MIN_BYTES,
    PARTS_WANTED_MAX,
    FailReason,
    Strategy,
    UploadRecord,
    UploadState,
    choose,
    from_fields,
    make_plan,
    part_size,
)

SIZES = st.integers(0, 5 * 1024**4)
WANTED = st.sampled_from(["auto", "single", "multipart", "socket"])


@given(WANTED, SIZES, st.booleans())
def test_plan_covers_the_file(wanted: str, size: int, takes_binary: bool) -> None:
    """Parts sum up to the file; all but the last have the same size, at least 5 MiB and whole MiB; never above 9,000."""
    plan = make_plan(wanted, size, takes_binary=takes_binary)

    assert plan.part_count <= PARTS_WANTED_MAX
    assert plan.part_size >= PART_MIN_BYTES
    assert plan.part_size % MIB == 0
    if size:
        last = plan.part_bytes(plan.part_count)
        assert 0 < last <= plan.part_size
        assert (plan.part_count - 1) * plan.part_size + last == size
    with pytest.raises(ValueError, match="parts are numbered"):
        plan.part_bytes(plan.part_count + 1)


@given(WANTED, SIZES, st.booleans())
def test_a_wish_is_granted(wanted: str, size: int, takes_binary: bool) -> None:
    """A strategy that was asked for is taken, but an empty file has no parts; auto takes the socket for one binary chunk only."""
    chosen = choose(wanted, size, takes_binary=takes_binary)

    if wanted == "auto":
        assert chosen is not Strategy.SOCKET or (takes_binary and size <= 256 * 1024)
    elif size == 0 and wanted == "multipart":
        assert chosen is Strategy.SINGLE
    else:
        assert chosen == wanted


def test_part_sizes_of_the_notes() -> None:
    """max(8 MiB, ceil(size / 9000) in whole MiB)."""
    assert part_size(1) == 8 * MIB
    assert part_size(9000 * 8 * MIB) == 8 * MIB
    assert part_size(9000 * 8 * MIB + 1) == 9 * MIB


@given(st.integers(1, 64), st.integers(1, 200), st.data())
def test_chunks_fill_every_part_exactly_once(part_bytes: int, size: int, data: st.DataObject) -> None:
    """However a file is cut into chunks, its parts receive each byte once and in order, and the last byte of each ends it."""
    file = bytes(index % 251 for index in range(size))
    parts: dict[int, bytes] = {}
    ended: list[int] = []
    offset = 0
    while offset < size:
        length = data.draw(st.integers(1, size - offset))
        chunk = file[offset : offset + length]
        for piece in slices(offset, length, part_bytes, size):
            assert piece.n not in ended
            parts[piece.n] = parts.get(piece.n, b"") + chunk[piece.start : piece.end]
            if piece.is_last:
                ended.append(piece.n)
        offset += length

    assert b"".join(parts[n] for n in sorted(parts)) == file
    assert ended == list(range(1, -(-size // part_bytes) + 1))
    assert all(len(parts[n]) == part_bytes for n in ended[:-1])


@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 300), st.integers(0, 300), st.booleans())
def test_offset_rule(size: int, held: int, offset: int, length: int, is_intact: bool) -> None:
    """Taken only at the next offset; what lies wholly before it is accepted again; what goes beyond the file never is."""
    held = min(held, size)
    verdict = judge(Chunk("0" * 32, offset, bytes(length), is_intact), held, size)

    if offset + length > size:
        assert verdict is ChunkVerdict.TOO_LONG
    elif not is_intact:
        assert verdict is ChunkVerdict.CHECKSUM
    elif offset + length <= held:
        assert verdict is ChunkVerdict.REPEAT
    else:
        assert (verdict is ChunkVerdict.TAKE) == (offset == held)


@given(st.binary(min_size=16, max_size=16), st.integers(0, 2**63), st.binary(max_size=100))
def test_binary_chunk_round_trips(upload_id: bytes, offset: int, data: bytes) -> None:
    """The binary form gives back what was written, intact; its head has 29 bytes."""
    message = encode_binary(upload_id.hex(), offset, data)

    assert decode_binary(message) == Chunk(upload_id.hex(), offset, data, True)
    assert len(message) == HEAD.size + len(data) == 29 + len(data)


@given(st.binary(min_size=1, max_size=50), st.data())
def test_binary_chunk_shows_damage(data: bytes, draw: st.DataObject) -> None:
    """One flipped bit in the data is noticed."""
    message = bytearray(encode_binary("ab" * 16, 7, data))
    message[HEAD.size + draw.draw(st.integers(0, len(data) - 1))] ^= 1 << draw.draw(st.integers(0, 7))

    assert decode_binary(bytes(message)).is_intact is False


@given(st.binary(max_size=60))
def test_any_binary_message_is_a_chunk_or_refused(message: bytes) -> None:
    """No bytes make the decoder fail otherwise."""
    try:
        chunk = decode_binary(message)
    except MalformedChunk:
        assert len(message) < 29 or message[0] != 1
    else:
        assert re.fullmatch("[0-9a-f]{32}", chunk.upload_id)


@given(st.lists(st.sampled_from(list(UploadState)), max_size=12))
def test_states_end_once(wishes: list[UploadState]) -> None:
    """However states are asked for, an upload is ready or failed at most once, and nothing follows."""
    state, path = UploadState.REQUESTED, [UploadState.REQUESTED]
    for wish in wishes:
        if state in COMES_FROM.get(wish, ()):
            state = wish
            path.append(wish)

    ends = [index for index, step in enumerate(path) if step in FINAL]
    assert len(ends) <= 1
    assert not ends or ends[0] == len(path) - 1


def test_every_state_can_fail_and_be_reached() -> None:
    """Whatever is not final may fail, and every state is entered from one that can be reached."""
    reached = {UploadState.REQUESTED}
    for _ in UploadState:
        reached |= {state for state, sources in COMES_FROM.items() if reached & set(sources)}

    assert reached == set(UploadState)
    for state in set(UploadState) - set(FINAL) - {UploadState.FAILING}:
        assert state in COMES_FROM[UploadState.FAILING]


@given(st.text(max_size=300))
def test_names_that_pass_are_harmless(name: str) -> None:
    """A name that is taken is no path, has no control or direction characters, and is of bounded length."""
    if name_problem(name) is None:
        assert not set(name) & set("/\\\x00\n\r\u202e\u2066\u2028")
        assert 0 < len(name) <= 255
        assert name not in {".", ".."}


@given(st.binary(max_size=500))
def test_detection_never_fails(head: bytes) -> None:
    """Any bytes have a content type."""
    assert re.fullmatch(r"[a-z]+/[a-z0-9.+-]+", detect(head))


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=5))
def test_composite_names_its_parts(parts: list[bytes]) -> None:
    """The composite ends in the number of parts and changes with their order."""
    digests = [sha256_of(part) for part in parts]

    value = composite(digests)

    assert value.endswith(f"-{len(parts)}")
    assert (composite(digests[::-1]) == value) == (digests == digests[::-1])
    assert all(encode_digest(decode_digest(digest)) == digest for digest in digests)


@given(
    WANTED, SIZES, st.text(min_size=1, max_size=20), st.sampled_from(list(UploadState)),
    st.sampled_from([None, *FailReason]), st.booleans(),
)  # fmt: skip # many arguments
def test_record_round_trips(
    wanted: str, size: int, filename: str, state: UploadState, reason: FailReason | None, is_checked: bool
) -> None:
    """The hash gives back the upload it was written from."""
    upload = UploadRecord(
        id="ab" * 16, channel=Channel("acme", Kind.TEAM, "blue"), user="alice", filename=filename, mime="text/plain",
        plan=make_plan(wanted, size, takes_binary=False), event_id="1-0", slot="s", expires_ms=5, state=state,
        reason=reason, is_checked=is_checked,
    )  # fmt: skip # many arguments

    assert from_fields(upload.id, {name: str(value) for name, value in upload.to_fields().items()}) == upload


@given(st.integers(0, 2**60), st.sampled_from(["text/plain", "text/html", "image/png", "TEXT/HTML; charset=x"]))
def test_refused_types_are_refused_whatever_is_allowed(size: int, mime: str) -> None:
    """No pattern lets a document through that would run in our origin."""
    for types in (("*/*",), ("text/*",), ("text/html",)):
        assert UploadLimits(types=types).allows_type("text/html") is False
    assert UploadLimits(types=("image/*",)).allows_type("text/plain") is False
