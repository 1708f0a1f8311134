"""JSON Patch: the examples of RFC 6902 appendix A, and the bounds the RFC does not have."""

from __future__ import annotations

from contextlib import suppress

import pytest

from projections.errors import PatchRefused
from projections.json_patch import DEPTH_MAX, WEIGHT_MAX, WORK_MAX, PatchWork, apply_patch, equals
from streams.json_bytes import Json, to_json

APPENDIX_A: list[tuple[str, Json, list[Json], Json]] = [
    ("A.1", {"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux"}], {"baz": "qux", "foo": "bar"}),
    (
        "A.2", {"foo": ["bar", "baz"]}, [{"op": "add", "path": "/foo/1", "value": "qux"}],
        {"foo": ["bar", "qux", "baz"]},
    ),
    ("A.3", {"baz": "qux", "foo": "bar"}, [{"op": "remove", "path": "/baz"}], {"foo": "bar"}),
    ("A.4", {"foo": ["bar", "qux", "baz"]}, [{"op": "remove", "path": "/foo/1"}], {"foo": ["bar", "baz"]}),
    (
        "A.5", {"baz": "qux", "foo": "bar"}, [{"op": "replace", "path": "/baz", "value": "boo"}],
        {"baz": "boo", "foo": "bar"},
    ),
    (
        "A.6", {"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}},
        [{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}],
        {"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}},
    ),
    (
        "A.7", {"foo": ["all", "grass", "cows", "eat"]}, [{"op": "move", "from": "/foo/1", "path": "/foo/3"}],
        {"foo": ["all", "cows", "eat", "grass"]},
    ),
    (
        "A.8", {"baz": "qux", "foo": ["a", 2, "c"]},
        [{"op": "test", "path": "/baz", "value": "qux"}, {"op": "test", "path": "/foo/1", "value": 2}],
        {"baz": "qux", "foo": ["a", 2, "c"]},
    ),
    (
        "A.10", {"foo": "bar"}, [{"op": "add", "path": "/child", "value": {"grandchild": {}}}],
        {"foo": "bar", "child": {"grandchild": {}}},
    ),
    ("A.11", {"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux", "xyz": 123}], {"foo": "bar", "baz": "qux"}),
    ("A.14", {"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": 10}], {"/": 9, "~1": 10}),
    ("A.16", {"foo": ["bar"]}, [{"op": "add", "path": "/foo/-", "value": ["abc", "def"]}], {"foo": ["bar", ["abc", "def"]]}),
]  # fmt: skip # a table

REFUSED: list[tuple[str, Json, list[Json]]] = [
    ("A.9", {"baz": "qux"}, [{"op": "test", "path": "/baz", "value": "bar"}]),
    ("A.12", {"foo": "bar"}, [{"op": "add", "path": "/baz/bat", "value": "qux"}]),
    ("A.15", {"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": "10"}]),
    ("unknown operation", {}, [{"op": "merge", "path": "/a", "value": 1}]),
    ("no operation", {}, ["add"]),
    ("no path", {}, [{"op": "add", "value": 1}]),
    ("no value", {}, [{"op": "add", "path": "/a"}]),
    ("no from", {}, [{"op": "copy", "path": "/a"}]),
    ("path without slash", {}, [{"op": "add", "path": "a", "value": 1}]),
    ("tilde that escapes nothing", {}, [{"op": "add", "path": "/a~2", "value": 1}]),
    ("missing member to remove", {}, [{"op": "remove", "path": "/a"}]),
    ("missing member to replace", {}, [{"op": "replace", "path": "/a", "value": 1}]),
    ("missing member to test", {}, [{"op": "test", "path": "/a", "value": 1}]),
    ("missing element to replace", [1], [{"op": "replace", "path": "/1", "value": 1}]),
    ("element beyond the end", [1], [{"op": "add", "path": "/2", "value": 1}]),
    ("end of array is nothing to remove", [1], [{"op": "remove", "path": "/-"}]),
    ("leading zero", [1, 2], [{"op": "replace", "path": "/01", "value": 1}]),
    ("negative index", [1, 2], [{"op": "replace", "path": "/-1", "value": 1}]),
    ("digits of another script", [1, 2], [{"op": "replace", "path": "/\u0661", "value": 1}]),
    ("through a number", {"a": 1}, [{"op": "test", "path": "/a/b", "value": 1}]),
    ("into a string", {"a": "x"}, [{"op": "add", "path": "/a/0", "value": 1}]),
    ("into itself", {"a": {"b": 1}}, [{"op": "move", "from": "/a", "path": "/a/b"}]),
    ("the whole, removed", {"a": 1}, [{"op": "remove", "path": ""}]),
    ("true is not 1", {"a": True}, [{"op": "test", "path": "/a", "value": 1}]),
    ("null is not absent", {"a": None}, [{"op": "test", "path": "/b", "value": None}]),
]


@pytest.mark.parametrize(
    ("document", "patch", "expected"), [row[1:] for row in APPENDIX_A], ids=[r[0] for r in APPENDIX_A]
)
def test_appendix_a_applies(document: Json, patch: list[Json], expected: Json) -> None:
    """The RFC's examples have the results that it gives."""
    assert equals(expected, apply_patch(document, patch).document)


@pytest.mark.parametrize(("document", "patch"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_a_patch_that_does_not_apply_is_refused(document: Json, patch: list[Json]) -> None:
    """A malformed operation, and one that finds nothing, is refused by its index."""
    with pytest.raises(PatchRefused) as refused:
        apply_patch(document, [{"op": "test", "path": "", "value": document}, *patch])

    assert refused.value.index == 1


@pytest.mark.parametrize("patch", [row[2] for row in REFUSED] + [row[2] for row in APPENDIX_A])
def test_the_document_given_is_never_changed(patch: list[Json]) -> None:
    """A patch gives a new document, whether it succeeds or stops halfway (RFC 6902 section 5)."""
    document: Json = {"foo": ["bar", {"a": 1}], "baz": {"b": [1, 2]}}
    before = to_json(document)

    with suppress(PatchRefused):
        apply_patch(document, [{"op": "add", "path": "/foo/1/new", "value": 1}, *patch])

    assert before == to_json(document)


def test_the_whole_document_can_be_replaced() -> None:
    """The empty pointer is the document itself."""
    assert apply_patch({"a": 1}, [{"op": "replace", "path": "", "value": [1]}]).document == [1]


def test_a_copy_is_a_value_of_its_own() -> None:
    """Changing a copy leaves the original as it was, although they share memory until then."""
    patch: list[Json] = [{"op": "copy", "from": "/a", "path": "/b"}, {"op": "add", "path": "/b/x", "value": 2}]

    assert apply_patch({"a": {}}, patch).document == {"a": {}, "b": {"x": 2}}


def test_moving_to_the_same_place_changes_nothing() -> None:
    """Source and target may be one place (section 4.4 forbids only a proper prefix)."""
    assert apply_patch({"a": 1}, [{"op": "move", "from": "/a", "path": "/a"}]).document == {"a": 1}


def test_copies_cannot_double_a_document_without_end() -> None:
    """200 copies of the whole into itself are refused, long before memory is short."""
    patch: list[Json] = [{"op": "copy", "from": "", "path": f"/{n}"} for n in range(200)]

    with pytest.raises(PatchRefused, match="too much"):
        apply_patch({"text": "x" * 1000}, patch)


def test_a_document_cannot_become_deeper_than_readers_can_follow() -> None:
    """Depth is bounded over many patches, by nesting and by moving alike."""
    deeper: list[Json] = [{"op": "copy", "from": "", "path": "/a"}]
    document: Json = {}
    for _ in range(DEPTH_MAX - 1):
        document = apply_patch(document, deeper).document

    with pytest.raises(PatchRefused, match="too deep"):
        apply_patch(document, deeper)

    assert to_json(document).startswith(b'{"a":{"a":')


def test_the_weight_reported_bounds_the_growth() -> None:
    """A patch's values are counted with their names, so a document's weight can be bounded by adding up."""
    patched = apply_patch({}, [{"op": "add", "path": "/" + "k" * 100, "value": "v" * 1000}])

    assert 1100 <= patched.weight < 1200 < WEIGHT_MAX


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (1, 1.0, True), (1, True, False), (0, False, False), ([1, 2], [2, 1], False), ([1], [1, 2], False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True), ({"a": 1}, {"a": 1, "b": 2}, False), ("1", 1, False),
        (None, None, True), ({"a": [True]}, {"a": [1]}, False), (None, False, False),
    ],
)  # fmt: skip # a case a row
def test_equality_is_that_of_section_4_6(one: Json, other: Json, *, expected: bool) -> None:
    """Numbers compare by value, booleans are no numbers, arrays have an order and objects none."""
    assert expected is equals(one, other)


@pytest.mark.parametrize(
    "patch",
    [
        [{"op": "add", "path": "/a/0", "value": 1}] * 199 + [{"op": "test", "path": "/a/0", "value": 2}],
        [{"op": "copy", "from": "/a", "path": f"/c{n}"} for n in range(40)],
        [{"op": "move", "from": "/a", "path": f"/b{n}"} for n in range(2)] * 20,
        [{"op": "replace", "path": "/a/5", "value": 1}, {"op": "remove", "path": "/a/5"}] * 99,
    ],
    ids=["adds", "copies", "moves", "replaces and removes"],
)
def test_a_patch_has_a_budget_of_work(patch: list[Json]) -> None:
    """Small patches that copy and weigh a large array again and again took up to a second; work stops at the budget."""
    work = PatchWork(WORK_MAX)

    with pytest.raises(PatchRefused):
        apply_patch({"a": [0] * 60_000}, patch, work)

    assert work.done < WORK_MAX + 70_000


def test_the_largest_patch_that_puts_values_in_once_is_within_the_budget() -> None:
    """A payload of 256 KiB holds at most 130,000 values."""
    work = PatchWork(WORK_MAX)

    apply_patch({}, [{"op": "add", "path": "/a", "value": [0] * 130_000}], work)

    assert work.done <= WORK_MAX
