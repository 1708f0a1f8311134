"""Commands on their way: each settles once, and "later" keeps a channel's order."""

from __future__ import annotations

import pytest

from hub.client.errors import HubClosed, HubError
from hub.client.outbox import Command, Outbox

LATER = HubError({"code": 4013, "retry": "backoff"})
BUSY = HubError({"code": 4007, "retry": "backoff"})
NEVER = HubError({"code": 4003, "retry": "no"})


class Mailbox(Outbox):
    """An outbox whose outcomes are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.outcomes: list[tuple[str, object]] = []

    def put(self, command_id: str, channel: str | None = "team:a") -> bool:
        return self.add(
            Command(
                command_id, command_id.encode(), channel, lambda outcome: self.outcomes.append((command_id, outcome))
            )
        )


def test_a_refused_command_goes_alone_and_the_rest_follows():
    """After the pause the oldest probes; newer ones of the channel wait for its answer."""
    box = Mailbox()
    box.put("1")
    box.put("2")
    box.refuse("2", LATER, 5.0)
    box.refuse("1", LATER, 4.0)

    assert not box.put("3")
    assert box.put("other", "team:b")
    assert (box.released(4.9), box.due) == ([], 5.0)
    assert box.released(5.0) == [b"1"]
    assert box.released(9.0) == []
    box.settle("1", LATER)
    assert box.due == 0.0
    assert box.released(9.0) == [b"2", b"3"]
    assert box.put("4")


def test_a_probe_refused_again_waits_again():
    """The hold lasts as long as the hub says "later"."""
    box = Mailbox()
    box.put("1")
    box.refuse("1", LATER, 1.0)
    box.put("2")
    box.released(1.0)
    box.refuse("1", LATER, 3.0)

    assert box.released(2.0) == []
    assert box.released(3.0) == [b"1"]


def test_a_probe_given_up_frees_the_others():
    """Cancelling the command that goes first does not leave the rest waiting."""
    box = Mailbox()
    box.put("1")
    box.refuse("1", LATER, 1.0)
    box.put("2")
    box.forget("1")

    assert box.released(1.0) == [b"2"]
    box.forget("2")
    assert (box.released(2.0), box.due) == ([], float("inf"))
    assert box.put("3")


def test_a_refusal_of_one_command_holds_back_only_it():
    """4007 is about an agent, not about the channel."""
    box = Mailbox()
    box.put("1")
    box.refuse("1", BUSY, 1.0)

    assert box.put("2")
    assert box.released(1.0) == [b"1"]


def test_refusals_end_at_once_or_after_many():
    """`no` settles; "later" settles with the last refusal when it never ends."""
    box = Mailbox()
    box.put("1")
    box.refuse("1", NEVER, 0.0)
    box.put("2")
    for _ in range(12):
        box.refuse("2", LATER, 0.0)

    assert box.outcomes == [("1", NEVER), ("2", LATER)]
    assert len(box) == 0


def test_a_new_socket_begins_with_everything():
    """Holds belong to the old socket; order is the caller's."""
    box = Mailbox()
    for command_id in "123":
        box.put(command_id)
    box.refuse("2", LATER, 99.0)

    assert box.resend() == [b"1", b"2", b"3"]
    assert box.put("4")


def test_each_settles_once():
    """A second answer is passed over, an unanswered command fails at the end, an id in use is refused."""
    box = Mailbox()
    box.put("1")
    with pytest.raises(ValueError, match="in use"):
        box.put("1")
    box.settle("1", NEVER)
    box.settle("1", LATER)
    box.put("2")
    closed = HubClosed("x")
    box.fail(closed)

    assert box.outcomes == [("1", NEVER), ("2", closed)]
