"""One map of what Redis may answer instead: the same refusal means the same on every way, wrapped or not."""

from __future__ import annotations

import hiredis
import pytest
from redis.exceptions import ConnectionError as Unreachable
from redis.exceptions import OutOfMemoryError

from streams.errors import CommandRefused, LogUnavailable, RightMissing
from streams.redis.calls import code_of, in_our_words, is_moved
from streams.redis.client import in_our_errors

WRAPPED = (
    "ERR Error running script (call to f_6b1bf486c81ceb7edf3c093f4a48582e38c0e791): @user_script:52: @user_script: 52: "
)

PASSING = [
    "OOM command not allowed when used memory > 'maxmemory'.",
    "OOM command not allowed when used memory > 'maxmemory'. script: 6b1bf486, on @user_script:52.",
    f"{WRAPPED}-OOM command not allowed when used memory > 'maxmemory'. ",
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
    f"{WRAPPED}-MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. ",
    "READONLY You can't write against a read only replica.",
    f"{WRAPPED}-READONLY You can't write against a read only replica. ",
    "LOADING Redis is loading the dataset in memory",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "NOREPLICAS Not enough good replicas to write.",
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "CLUSTERDOWN The cluster is down",
]
RIGHTS = [
    "NOPERM this user has no permissions to run the 'xadd' command",
    "ERR The user executing the script can't run this command or subcommand script: 6b1b, on @user_script:1.",
    f"{WRAPPED}The user executing the script can't run this command or subcommand ",
    "NOAUTH Authentication required.",
    "WRONGPASS invalid username-password pair or user is disabled.",
]
WRONG = {
    "WRONGTYPE Operation against a key holding the wrong kind of value": "WRONGTYPE",
    f"{WRAPPED}-WRONGTYPE Operation against a key holding the wrong kind of value ": "WRONGTYPE",
    "BUSYGROUP Consumer Group name already exists": "BUSYGROUP",
    "NOGROUP No such key 'k' or consumer group 'g'": "NOGROUP",
    "ERR unknown command 'NOSUCH'": "ERR",
}


@pytest.mark.parametrize("text", PASSING)
def test_what_passes_is_the_log_being_unavailable(text: str) -> None:
    """The same call may be made again."""
    assert type(in_our_words(hiredis.ReplyError(text))) is LogUnavailable


@pytest.mark.parametrize("text", RIGHTS)
def test_a_missing_right_waits_for_the_operator(text: str) -> None:
    """Unavailable for who called; the text says what to do."""
    found = in_our_words(hiredis.ReplyError(text))

    assert type(found) is RightMissing
    assert "grant" in str(found)


@pytest.mark.parametrize("text", WRONG)
def test_what_a_repetition_would_not_mend_is_no_unavailability(text: str) -> None:
    """The code is told, so that a caller can know a lost group from a wrong type."""
    found = in_our_words(hiredis.ReplyError(text))

    assert isinstance(found, CommandRefused)
    assert found.code == WRONG[text]


def test_a_replica_is_left_and_a_full_master_is_not() -> None:
    """Another connection finds the new master; it finds no memory."""
    moved = [text for text in PASSING if is_moved(hiredis.ReplyError(text))]

    assert {code_of(hiredis.ReplyError(text)) for text in moved} == {"READONLY", "MASTERDOWN"}
    assert len(moved) == 3


@pytest.mark.parametrize(
    "error", [Unreachable("gone"), OutOfMemoryError("full"), ConnectionRefusedError(), TimeoutError()]
)
def test_somebody_elses_client_fails_in_our_words(error: Exception) -> None:
    """The job queue's client raises its own; who waits for a job sees the log's."""
    with pytest.raises(LogUnavailable) as found, in_our_errors():
        raise error

    assert found.value.__cause__ is error
