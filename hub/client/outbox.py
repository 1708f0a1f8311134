"""Commands until they are answered: sent again after every resume, under the same id and in order. Pure.

Each command is settled exactly once: by its reply, by an error, or by the end of the client. If the hub refuses one
with "later" because of its own state or the user's rate limit, the channel's newer commands wait behind it: after the
pause the oldest is sent alone, and the rest follow once it is answered, so that newer ones do not overtake it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from hub.client.errors import ClientError, HubError, Retry
from hub.client.items import Reply

_OF_THE_CHANNEL: Final = (4004, 4013)
"""Codes of refusals that the channel's next command would get too: rate_limited, unavailable."""
Outcome: TypeAlias = Reply | ClientError
_ATTEMPTS_MAX: Final = 12
"""Refusals with "later" after which a command fails. The hub doubles its advised pause each time, so this takes about a minute."""


class Command:
    """One unanswered command.

    Attributes:
        wire: the message's bytes, the same at every attempt (the hub compares bodies).
        done: called once with the outcome.
        held_by: key of the `Hold` it waits for; None while it is sent.
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
    """A reason for commands to wait: until `due`, and then for the answer to `probe`, the one command sent first."""

    due: float
    probe: str | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """A command that waits because the hub said "later"; `is_new` if no other waited for the same reason before."""

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
        """Keeps a command until it is answered; returns True if it may be sent at once.

        Raises:
            ValueError: another unanswered command has this id.
        """
        if command.id in self._pending:
            raise ValueError(f"the command id {command.id!r} is in use by an unanswered command")
        self._pending[command.id] = command
        if command.channel in self._holds:
            command.held_by = command.channel
        return command.held_by is None

    def settle(self, command_id: str, outcome: Outcome) -> None:
        """Settles a command. A second answer, or one to a forgotten command, is ignored."""
        command = self.forget(command_id)
        if command is not None:
            command.done(outcome)

    def forget(self, command_id: str) -> Command | None:
        """Drops a command whose caller was cancelled: it is neither sent again nor reported."""
        command = self._pending.pop(command_id, None)
        if command is not None and self._holds:
            for key in [key for key, hold in self._holds.items() if hold.probe == command_id]:
                del self._holds[key]
                self._ready += [self._let_go(held) for held in self._held_by(key)]
        return command

    def refuse(self, command_id: str, error: HubError, due: float) -> Held | None:
        """Handles an error.

        One with "later" keeps the command for another attempt after `due`; any other settles it (None).
        """
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
        """Returns how often an unanswered command has been refused so far."""
        return self._pending[command_id].attempts

    @property
    def due(self) -> float:
        """The time at which `released` may return something; infinity if nothing waits for a time."""
        if self._ready:
            return 0.0
        return min((hold.due for hold in self._holds.values() if hold.probe is None), default=float("inf"))

    def released(self, now: float) -> list[bytes]:
        """Takes the held commands that may be sent now, in the order submitted."""
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
        """Releases every hold and returns all unanswered commands, in the order submitted, for a new socket."""
        self._holds.clear()
        self._ready.clear()
        return [self._let_go(command) for command in self._pending.values()]

    def oversized(self, limit_bytes: int) -> list[str]:
        """Returns the ids of commands that exceed this hub's limit, although an earlier hub's allowed them."""
        return [command.id for command in self._pending.values() if len(command.wire) > limit_bytes]

    def fail(self, error: ClientError) -> None:
        """Settles every command with `error`: no more answers will come."""
        for command_id in list(self._pending):
            self.settle(command_id, error)

    def _held_by(self, key: str) -> list[Command]:
        return [command for command in self._pending.values() if command.held_by == key]

    def _let_go(self, command: Command) -> bytes:
        command.held_by = None
        return command.wire
