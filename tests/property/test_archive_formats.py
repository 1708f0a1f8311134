"""The formats of the archive: trees against pymerkle, notes, segments and manifests against any input."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymerkle import InmemoryTree

from streams.archive.manifest import ArchiveMark, ArchiveSegment, Manifest, ManifestDamaged
from streams.archive.merkle import (
    GrowingTree,
    consistency_ranges,
    entries_path,
    fold,
    inclusion_ranges,
    is_consistent,
    is_included,
    leaf_hash,
    nodes_of,
    pack_entries,
    root_of,
    split_hashes,
    tile_path,
    tiles_of,
    unpack_entries,
)
from streams.archive.notes import Checkpoint, NoteRefused, PublicKey, Signer, open_checkpoint
from streams.archive.segments import SegmentCodec, SegmentDamaged, line_of, read_index, read_line
from streams.channel import parse_channel
from streams.cursor import START, Position
from streams.envelope import Actor, Entry, actor_json
from streams.json_bytes import to_json

CHANNEL = b"conversation:42"
SIZES = st.one_of(st.integers(1, 40), st.sampled_from([255, 256, 257, 511, 512, 513, 700]))


def leaves(count: int) -> list[bytes]:
    """The leaves of a tree."""
    return [b"event %d" % number for number in range(count)]


def hashes(count: int) -> list[bytes]:
    """The hashes of these leaves."""
    return [leaf_hash(leaf) for leaf in leaves(count)]


def subtree(of: Sequence[bytes]) -> Callable[[tuple[int, int]], bytes]:
    """Computes the hash of a range from the subtrees that `nodes_of` names."""

    def compute(span: tuple[int, int]) -> bytes:
        return fold([root_of(of[n.number << n.height : (n.number + 1) << n.height]) for n in nodes_of(*span)])

    return compute


def oracle(count: int) -> InmemoryTree:
    """A tree of another library."""
    tree = InmemoryTree(algorithm="sha256")
    for leaf in leaves(count):
        tree.append_entry(leaf)
    return tree


@given(SIZES, st.data())
def test_an_inclusion_proof_is_the_one_of_another_library(size: int, data: st.DataObject) -> None:
    """Root and path agree; another leaf, place, size or root is refused."""
    index = data.draw(st.integers(0, size - 1))
    of, other = hashes(size), oracle(size)
    path = [subtree(of)(span) for span in inclusion_ranges(index, size)]

    assert root_of(of) == other.get_root()
    assert [one.hex() for one in path] == other.prove_inclusion(index + 1, size).serialize()["path"][1:]
    assert is_included(index, size, of[index], path, root_of(of))
    assert not is_included(index, size, leaf_hash(b"forged"), path, root_of(of))
    assert not is_included(index, size, of[index], [*path, of[0]], root_of(of))
    assert not is_included(index, size, of[index], path, root_of([*of, of[0]]))
    assert sum(map(len, path)) <= 2_048


@given(SIZES, st.data())
def test_a_consistency_proof_holds_for_the_same_history_only(size: int, data: st.DataObject) -> None:
    """A tree that grew is consistent with itself; one whose past was changed is not."""
    old = data.draw(st.integers(1, size))
    of = hashes(size)
    path = [subtree(of)(span) for span in consistency_ranges(old, size)]
    changed = [leaf_hash(b"forged"), *of[1:]]

    assert is_consistent(old, size, path, root_of(of[:old]), root_of(of))
    assert root_of(of[:old]) == oracle(old).get_root()
    assert not is_consistent(old, size, path, root_of(changed[:old]), root_of(of))
    forged = [subtree(changed)(span) for span in consistency_ranges(old, size)]
    assert not is_consistent(old, size, forged, root_of(of[:old]), root_of(changed))


@given(SIZES, st.lists(st.integers(0, 300), max_size=6), st.integers(0, 300))
def test_a_tree_grows_the_same_in_any_steps_and_after_a_reload(size: int, steps: list[int], more: int) -> None:
    """Tiles and roots depend on the leaves alone."""
    of, tree, store, at = hashes(size + more), GrowingTree(), {}, 0
    for step in [*steps, size]:
        taken = of[at : min(at + step, size)]
        store |= {tile.path: tile.hashes for tile in tree.append(taken)}
        at += len(taken)
    store |= {tile.path: tile.hashes for tile in tree.partial()}
    again = GrowingTree.load(size, lambda level, index, width: store[tile_path(level, index, width)])
    again.append(of[size:])

    assert tree.root() == root_of(of[:size])
    assert again.root() == root_of(of)
    first_level = b"".join(
        hashes_of for path, hashes_of in sorted(store.items()) if path.startswith("tile/0/") and ".p/" not in path
    )
    assert split_hashes(first_level) == of[: size // 256 * 256]
    assert {tile_path(level, index, width) for level, index, width in tiles_of(size) if width < 256} <= store.keys()


def test_tiles_are_where_public_tools_look_for_them() -> None:
    """The paths of C2SP tlog-tiles."""
    assert tile_path(0, 1_234_067) == "tile/0/x001/x234/067"
    assert tile_path(1, 5, 17) == "tile/1/005.p/17"
    assert entries_path(1_000, 256) == "tile/entries/x001/000"
    assert unpack_entries(pack_entries([b"a", b"", b"bc"])) == [b"a", b"", b"bc"]
    with pytest.raises(ValueError, match="within an entry"):
        unpack_entries(b"\x00\x05abc")


def test_a_proof_in_a_tree_of_a_million_is_small_and_quick_to_check() -> None:
    """20 hashes of 32 bytes; an answer in text with a checkpoint stays under 2 KB."""
    size = 1_000_000
    path = [bytes(32) for _ in inclusion_ranges(size // 3, size)]
    began = time.process_time()
    is_included(size // 3, size, bytes(32), path, bytes(32))

    assert len(path) <= 20
    assert time.process_time() - began < 1


def test_a_checkpoint_is_opened_with_the_right_key_alone() -> None:
    """The example of the specification's form: text, empty line, signature; a second signer is another line."""
    hub, witness = Signer("hub.example", bytes(range(32))), Signer("witness.example", bytes(32), is_witness=True)
    note = Checkpoint("hub.example/acme", 7, bytes(32), ("more",)).signed(hub)
    text = note.partition(b"\n\n")[0] + b"\n"
    both = note + witness.sign(text, 1_795_367_479)

    assert note.startswith(b"hub.example/acme\n7\nAAAA")
    assert open_checkpoint(note, [hub.public]).checkpoint == Checkpoint("hub.example/acme", 7, bytes(32), ("more",))
    assert open_checkpoint(both, [hub.public, witness.public]).signers == ("hub.example", "witness.example")
    assert PublicKey.parse(str(witness.public)) == witness.public
    with pytest.raises(NoteRefused, match="no known key"):
        open_checkpoint(note, [witness.public])
    with pytest.raises(NoteRefused, match="does not match"):
        open_checkpoint(note.replace(b"\n7\n", b"\n8\n"), [hub.public])
    with pytest.raises(NoteRefused, match="a public key reads"):
        PublicKey.parse(str(hub.public).replace("hub.example", "other"))


@given(st.binary(max_size=200))
def test_no_text_breaks_the_reader_of_notes(data: bytes) -> None:
    """Opened or refused."""
    with pytest.raises(NoteRefused):
        open_checkpoint(data, [])


ACTORS = st.sampled_from([Actor("user", "alice"), Actor("agent", "a.b"), Actor("user", "bob@x", "c-1")])
METAS = st.sampled_from(
    [
        b"{}",
        b'{"command":"c1"}',
        b'{"command":"c}{","traceparent":"00-4b-00f0-01"}',
        b'{"command":"c","correlation":"r1","causation":"17-0"}',
    ]
)
PAYLOADS = st.dictionaries(st.text(max_size=5), st.text(max_size=60) | st.integers() | st.lists(st.none()), max_size=3)


@st.composite
def entries(draw: st.DrawFn) -> list[Entry]:
    """Consecutive events."""
    first, count = draw(st.integers(1, 2**40)), draw(st.integers(1, 12))
    return [
        Entry(
            b"%d-0" % (1_795_367_479_000 + at),
            first + at,
            b"chat.message",
            b"1",
            actor_json(draw(ACTORS)),
            to_json(draw(PAYLOADS)),
            draw(METAS),
        )
        for at in range(count)
    ]


@given(entries())
def test_a_segment_gives_back_every_byte(events: list[Entry]) -> None:
    """The lines are those of the wire, and the events are those that were stored."""
    codec = SegmentCodec()
    made = codec.encode(events, CHANNEL)

    assert codec.all_lines(made.data, made.index_at) == made.lines == [one.wire(CHANNEL) for one in events]
    assert [read_line(line) for line in made.lines] == events


@given(entries(), st.data())
def test_a_flipped_bit_of_a_frame_is_found(events: list[Entry], data: st.DataObject) -> None:
    """The checksum of the frame, or its form, gives it away; never are other events read."""
    codec = SegmentCodec()
    made = codec.encode(events, CHANNEL)
    at = data.draw(st.integers(0, made.index_at - 1))
    flipped = bytearray(made.data)
    flipped[at] ^= 1 << data.draw(st.integers(0, 7))

    try:
        lines = codec.all_lines(bytes(flipped), made.index_at)
    except SegmentDamaged:
        return
    assert lines == made.lines


def test_a_frame_holds_one_page(tmp_path: object) -> None:
    """500 events or 256 KiB of payloads; a larger event has a frame of its own, and `zstd -d` reads them all."""
    small = [Entry(b"%d-0" % at, at, b"t", b"1", b"{}", b"{}", b"{}") for at in range(1, 1_101)]
    large = [
        Entry(b"%d-0" % at, at, b"t", b"1", b"{}", b'"%b"' % (b"x" * 200_000), b"{}") for at in range(1_101, 1_104)
    ]
    codec = SegmentCodec()
    made = codec.encode(small + large, CHANNEL)

    frames = read_index(made.data[made.index_at :])
    assert [frame.last_seq - frame.first_seq + 1 for frame in frames] == [500, 500, 101, 1, 1]
    with pytest.raises(SegmentDamaged, match="index"):
        read_index(made.data[made.index_at + 1 :])
    try:
        out = subprocess.run(["zstd", "-dc"], input=made.data, capture_output=True, check=True).stdout
    except FileNotFoundError:
        pytest.skip("no zstd tool here")
    assert out == b"".join(line + b"\n" for line in made.lines)


def test_a_line_break_between_tokens_is_a_space() -> None:
    """A line stays a line."""
    odd = Entry(b"1-0", 1, b"t", b"1", b"{}", b'{"a":\n1}', b"{}")

    assert line_of(odd, CHANNEL).endswith(b'"payload":{"a": 1}}')


def segment(first: int, last: int) -> ArchiveSegment:
    """A segment's entry in a manifest."""
    return ArchiveSegment(first, f"{first}-0", last, f"{last}-0", last - first + 1, 10, 20, 5, "ab")


def test_manifests_follow_each_other() -> None:
    """Each names the one before; a hole between segments is refused, when it is made and when it is read."""
    channel = parse_channel("acme", "conversation:42")
    zero = Manifest.first(channel, "e", Position(START, 0))
    one = zero.with_segment(segment(1, 10))
    two = one.with_segment(segment(11, 15))
    three = two.without(1)

    assert (one.number, one.previous, two.previous, three.removed) == (1, "", one.sha256, Position("10-0", 10))
    assert Manifest.parse(three.to_json()) == three
    assert (
        ArchiveMark.parse(str(three.mark)) == three.mark == ArchiveMark(3, Position("10-0", 10), Position("15-0", 15))
    )
    assert ArchiveMark.parse("") == ArchiveMark()
    with pytest.raises(ValueError, match="begins with seq 17"):
        two.with_segment(segment(17, 20))
    with pytest.raises(ManifestDamaged, match="does not follow"):
        Manifest.parse(two.to_json().replace(b'"first_seq":11', b'"first_seq":12'))
    with pytest.raises(ManifestDamaged):
        Manifest.parse(b"{}")
