"""Old payloads are lifted step by step to the version that is declared."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streams.events import CATALOGUE
from streams.events.upcast import UPCASTERS, UnreadableVersion, lift

THREE = {"chat.message": replace(CATALOGUE["chat.message"], version=3)}
STEPS = {
    ("chat.message", 1): lambda payload: {"text": payload["body"]},
    ("chat.message", 2): lambda payload: {**payload, "metadata": {}},
}


def test_a_payload_is_lifted_over_every_version() -> None:
    """Version 1 becomes version 3 by way of 2, and the old payload is left as it was."""
    old: dict[str, object] = {"body": "a"}
    assert lift("chat.message", 1, old, THREE, STEPS) == {"text": "a", "metadata": {}}
    assert lift("chat.message", 2, {"text": "a"}, THREE, STEPS) == {"text": "a", "metadata": {}}
    assert old == {"body": "a"}


def test_the_present_version_is_left_alone() -> None:
    """Nothing is done to what needs nothing."""
    payload: dict[str, object] = {"text": "a"}
    assert lift("chat.message", 3, payload, THREE, STEPS) is payload


def test_an_unknown_type_is_left_to_be_passed_over() -> None:
    """A reader passes over types that it does not know, whatever their version."""
    assert lift("chat.sing", 7, {"a": 1}, THREE, STEPS) == {"a": 1}


@pytest.mark.parametrize("v", [0, 4])
def test_a_version_that_is_not_ours_is_not_guessed(v: int) -> None:
    """A payload from the future is an error, not a fold that is silently wrong."""
    with pytest.raises(UnreadableVersion, match=f"chat.message v{v} cannot be read"):
        lift("chat.message", v, {}, THREE, STEPS)


def test_a_missing_step_is_an_error() -> None:
    """A version without an upcaster stops the lifting where it is."""
    with pytest.raises(UnreadableVersion) as error:
        lift("chat.message", 1, {"body": "a"}, THREE, {("chat.message", 1): STEPS["chat.message", 1]})
    assert error.value.v == 2


def test_every_old_version_has_its_upcaster() -> None:
    """From each released version of the real catalogue there is a way to the present one, and no step too many."""
    steps = {(name, v) for name, row in CATALOGUE.items() for v in range(1, row.version)}
    assert steps == set(UPCASTERS)
