"""The life of a key that is copied to another slot."""

from __future__ import annotations

import pytest

from streams.redis.repartition import restored_life_ms


@pytest.mark.parametrize(("told_ms", "given_ms"), [(-1, 0), (0, 1), (1, 1), (600_000, 600_000)])
def test_a_key_that_is_about_to_expire_never_becomes_eternal(told_ms: int, given_ms: int) -> None:
    """PTTL says -1 of a key without an end and 0 of one that ends within the millisecond; RESTORE means no end by 0."""
    assert restored_life_ms(told_ms) == given_ms
