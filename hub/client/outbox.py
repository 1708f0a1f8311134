"""Commands until they are answered: sent again after every resume, under the same id, in the order given. Pure.

Each command settles exactly once: by its reply, by an error, or by the end of the client. Where the hub says "later"
because of itself or the user's rate, the channel's commands wait behind the refused one: after the pause the oldest
is sent alone, and the rest follow once it is answered, so that newer ones do not overtake it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from hub.client.errors import ClientError, HubError, Retry
from hub.client.items import Reply

_OF_THE_CHANNEL: Final = (4004, 4013)
"""Refusals that the channel's next command would meet too: rate_limited, unavailable."""
Outcome: TypeAlias = Reply | ClientError
_ATTEMPTS_MAX: Final = 12
"""Refusals with "later" after which the command fails with the last. With the hub's doubling advice about a minute."""


class Command:
    """One command on its way.

    Attributes:
        wire: the frame's bytes, the same at every attempt (the hub compares bodies).
        done: called once with the outcome.
        held_by: the hold it waits for; None while it is sent.
    """

    __slots__ = ("attempts", "channel", "done", "held_by", "id", "wire")

    def __init__(self, command_id: str, wire: bytes, channel: str | None, done: Callable[[Outcome], None]) -> None:
        self.id = command_id
        self.wire = wire
        self.channel = channel
        self.done = done
        self.attempts = 0
        self.held_by: str | None = None


@dataclass(slots=True)
class Hold:
    """A reason commands wait: until `due`, then for the answer to `probe`, the one that was let through."""

    due: float
    probe: str | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """A command that waits because the hub said "later"; `is_new` if nothing waited for the same reason before."""

    command: Command
    error: HubError
    due: float
    is_new: bool


class Outbox:
    """The unanswered commands, oldest first."""

    __slots__ = ("_holds", "_pending", "_ready")

    def __init__(self) -> None:
        self._pending: dict[str, Command] = {}
        self._holds: dict[str, Hold] = {}
        self._ready: list[bytes] = []

    def __len__(self) -> int:
        return len(self._pending)

    def __contains__(self, command_id: object) -> bool:
        return command_id in self._pending

    def add(self, command: Command) -> bool:
        """Keep a command until it is answered; True when it may be sent at once.

        Raises:
            ValueError: a command of this id is unanswered.
        """
        if command.id in self._pending:
            raise ValueError(f"the command id {command.id!r} is in use by an unanswered command")
        self._pending[command.id] = command
        if command.channel in self._holds:
            command.held_by = command.channel
        return command.held_by is None

    def settle(self, command_id: str, outcome: Outcome) -> None:
        """Settle a command. A second answer, or one to a forgotten command, is passed over."""
        command = self.forget(command_id)
        if command is not None:
            command.done(outcome)

    def forget(self, command_id: str) -> Command | None:
        """Drop a command its caller gave up: it is neither sent again nor reported."""
        command = self._pending.pop(command_id, None)
        if command is not None and self._holds:
            for key in [key for key, hold in self._holds.items() if hold.probe == command_id]:
                del self._holds[key]
                self._ready += [self._let_go(held) for held in self._held_by(key)]
        return command

    def refuse(self, command_id: str, error: HubError, due: float) -> Held | None:
        """Handle an error. "Later" keeps the command and repeats it after `due`; else it is settled, and None returned."""
        command = self._pending[command_id]
        command.attempts += 1
        if error.retry not in (Retry.BACKOFF, Retry.NOW) or command.attempts >= _ATTEMPTS_MAX:
            self.settle(command_id, error)
            return None
        key = command.channel if command.channel and error.code in _OF_THE_CHANNEL else f"#{command_id}"
        command.held_by = key
        is_new = key not in self._holds
        hold = self._holds.setdefault(key, Hold(due))
        if hold.probe == command_id:
            hold.probe = None
        hold.due = max(due, hold.due)
        return Held(command, error, hold.due, is_new)

    def attempts(self, command_id: str) -> int:
        """The number of refusals of a pending command so far."""
        return self._pending[command_id].attempts

    @property
    def due(self) -> float:
        """The time `released` may have something; infinity while nothing waits for a time."""
        if self._ready:
            return 0.0
        return min((hold.due for hold in self._holds.values() if hold.probe is None), default=float("inf"))

    def released(self, now: float) -> list[bytes]:
        """Take the held commands that may be sent now, in the order given."""
        ready, self._ready = self._ready, []
        for key in [key for key, hold in self._holds.items() if hold.probe is None and hold.due <= now]:
            oldest = next(iter(self._held_by(key)), None)
            if oldest is None:
                del self._holds[key]
            else:
                self._holds[key].probe = oldest.id
                ready.append(self._let_go(oldest))
        return ready

    def resend(self) -> list[bytes]:
        """Everything unanswered, in the order given, for a new socket to begin with."""
        self._holds.clear()
        self._ready.clear()
        return [self._let_go(command) for command in self._pending.values()]

    def oversized(self, limit_bytes: int) -> list[str]:
        """Ids of commands over this hub's limit, although an earlier hub's allowed them."""
        return [command.id for command in self._pending.values() if len(command.wire) > limit_bytes]

    def fail(self, error: ClientError) -> None:
        """Settle everything with `error`: no answer will come any more."""
        for command_id in list(self._pending):
            self.settle(command_id, error)

    def _held_by(self, key: str) -> list[Command]:
        return [command for command in self._pending.values() if command.held_by == key]

    def _let_go(self, command: Command) -> bytes:
        command.held_by = None
        return command.wire
