"""After a loss: how long to wait, with which token, or not at all."""

from __future__ import annotations

import pytest

from hub.client.errors import HubError, Retry
from hub.client.recovery import Again, Fallback, Over, Recovery, full_jitter_s


def recovery(*, can_refresh: bool = False) -> Recovery:
    made = Recovery(lambda: 0.5, can_refresh=can_refresh)
    made.acknowledged({"min_ms": 100, "max_ms": 1000})
    return made


def told(code: int, retry: str, **more: int) -> dict[str, object]:
    return {"code": code, "name": "x", "message": "x", "retry": retry, **more}


def test_full_jitter_doubles_up_to_the_ceiling():
    """The draw is from nothing to a ceiling that doubles, however often."""
    assert [full_jitter_s(attempt, 100, 1000, 1.0) for attempt in (0, 1, 3, 4, 10**6)] == [0.1, 0.2, 0.8, 1.0, 1.0]
    assert full_jitter_s(9, 100, 1000, 0.0) == 0.0


def test_losses_without_progress_wait_longer():
    """Each loss doubles the pause; something received begins anew."""
    it = recovery()

    assert [it.lost(None, 0.0) for _ in range(3)] == [Again(0.05), Again(0.1), Again(0.2)]
    it.progressed()
    assert it.lost(1011, 0.0) == Again(0.05)


@pytest.mark.parametrize("code", [4001, 4003, 4005, 4014, 4019, 4020, 4023])
def test_codes_that_end_it(code):
    """The client does not come back if that cannot help, with or without the words that say so."""
    verdict = recovery().lost(code, 0.0)

    assert isinstance(verdict, Over)
    assert verdict.error.code == code


def test_now_means_now_once():
    """A second "now" without progress waits, so that two sides cannot spin."""
    it = recovery()

    assert it.lost(4012, 0.0) == Again(0.0)
    assert it.lost(4012, 0.0) == Again(0.1)


def test_the_hubs_words_win_over_the_table():
    """`connection.error` that belongs to the close says what to do and when."""
    it = recovery()
    it.refused(told(4010, "backoff", retry_after_ms=8000))

    assert it.lost(4010, 0.0) == Again(9.0)


def test_an_error_that_closed_nothing_is_not_held_against_the_connection():
    """A refused frame without id, then an unrelated loss: come back."""
    it = recovery()
    it.refused(told(4005, "no"))
    assert it.lost(1012, 0.0) == Again(0.05)


def test_a_refusal_whose_close_frame_was_lost_still_counts():
    """The error came, the close did not: 4019 ends it all the same."""
    it = recovery()
    it.refused(told(4019, "no"))

    assert isinstance(it.lost(None, 0.0), Over)


def test_an_expired_token_is_fetched_anew_twice_at_most():
    """A provider whose fresh tokens are expired too is not asked for ever."""
    it = recovery(can_refresh=True)

    assert it.lost(4002, 0.0) == Again(0.0, fresh_token=True)
    assert it.lost(4002, 0.0) == Again(0.1, fresh_token=True)
    assert isinstance(it.lost(4002, 0.0), Over)
    assert isinstance(recovery().lost(4002, 0.0), Over)


def test_a_drain_is_met_at_the_time_told():
    """The pause counts from the announcement, not from the close."""
    it = recovery()
    it.drained(100.0, 3000)

    assert it.lost(1012, 102.0) == Again(1.0)
    assert it.lost(1012, 103.0) == Again(0.1)


def test_an_error_without_known_fields_is_still_an_error():
    """A hub that says little is understood as far as it goes."""
    error = HubError({"code": 4013})

    assert (error.code, error.retry, error.details) == (4013, Retry.BACKOFF, ())


def test_a_hub_that_keeps_the_user_off_websocket_is_reached_over_http():
    """At once, and once: HTTP that fails too is no reason to try it at once again; WebSocket is tried later."""
    fallback = Fallback(5.0)
    first, again = fallback.refused(), fallback.refused()

    assert (first, again, fallback.is_http) == (True, False, True)
    assert fallback.acknowledged(0.5) == 5.0
    fallback.returned()
    assert fallback.refused()
    assert fallback.acknowledged(0.5) == 10.0
    assert isinstance(recovery().lost(4024, 0.0), Again)
