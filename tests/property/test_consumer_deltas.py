"""Laws of joining deltas: whatever the pieces and the clock, nothing is lost, doubled, too long or too often."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from consumers.runs.deltas import DELTA_MAX, JOIN_CHARACTERS, JOIN_S, Delta, Joiner, Track

PIECES = st.lists(
    st.tuples(
        st.sampled_from(["text", "reasoning"]),
        st.one_of(st.text(max_size=20), st.integers(1, 3 * DELTA_MAX).map(lambda count: "é" * count)),
        st.floats(0, 0.1),
    ),
    max_size=40,
)


def sent(joiner: Joiner, now_s: float) -> list[Delta]:
    """Everything that is due now, each confirmed at once."""
    found = []
    while joiner.due_in_s(now_s) == 0:
        found.append(joiner.take(now_s))
        joiner.stored()
    return found


@given(PIECES, st.text(max_size=10))
def test_deltas_add_up_to_what_was_given(pieces: list[tuple[Track, str, float]], kept: str) -> None:
    """Per track: dense offsets in code points from what was kept, each within the limit, all together the whole."""
    joiner, now_s, deltas = Joiner(kept), 0.0, []
    for track, text, pause_s in pieces:
        joiner.add(track, text)
        now_s += pause_s
        deltas += sent(joiner, now_s)
    while joiner.has_waiting:
        deltas.append(joiner.take(now_s))
        joiner.stored()

    held: dict[Track, str] = {"text": kept, "reasoning": ""}
    for delta in deltas:
        assert delta.offset == len(held[delta.track])
        assert delta.end == delta.offset + len(delta.text)
        assert 1 <= len(delta.text) <= DELTA_MAX
        held[delta.track] += delta.text
    assert held["text"] == kept + "".join(text for track, text, _ in pieces if track == "text") == joiner.whole("text")
    assert held["reasoning"] == "".join(text for track, text, _ in pieces if track == "reasoning")
    assert joiner.is_stored


@given(PIECES)
def test_small_deltas_keep_their_distance(pieces: list[tuple[Track, str, float]]) -> None:
    """The first goes at once; a later one only after 40 ms, unless 512 characters wait."""
    joiner, now_s, last_s = Joiner(), 0.0, None
    for track, text, pause_s in pieces:
        joiner.add(track, text)
        now_s += pause_s
        while joiner.due_in_s(now_s) == 0:
            waits = max(buffer.waiting_count for buffer in joiner._buffers.values())
            joiner.take(now_s)
            joiner.stored()
            assert last_s is None or now_s - last_s >= JOIN_S - 1e-9 or waits >= JOIN_CHARACTERS
            last_s = now_s
    assert last_s is not None or not any(text for _, text, _ in pieces)


@given(st.text(min_size=1))
def test_one_delta_is_in_flight_at_a_time(text: str) -> None:
    """Until it is stored nothing else is due, so offsets cannot overtake each other."""
    joiner = Joiner()
    joiner.add("text", text)
    joiner.take(0.0)
    joiner.add("text", text)

    assert joiner.due_in_s(1.0) is None
    joiner.stored()
    assert joiner.due_in_s(1.0) == 0
