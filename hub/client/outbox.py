"""Commands until they are answered: sent again after every resume, under the same id, in the order given. Pure.

Each command settles exactly once: by its reply, by an error, or by the end of the client. A refusal that says "later"
holds back its whole channel, so that commands of one channel are not overtaken by newer ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

from hub.client.errors import ClientError, HubError, Retry
from hub.client.replies import Reply

Outcome: TypeAlias = Reply | ClientError
_ATTEMPTS_MAX: Final = 12
"""Refusals with "later" after which the command fails with the last. With the hub's doubling advice about a minute."""


class Command:
    """One command on its way.

    Attributes:
        wire: the frame's bytes, the same at every attempt (the hub compares bodies).
        done: called once with the outcome.
    """

    __slots__ = ("attempts", "channel", "done", "id", "wire")

    def __init__(self, command_id: str, wire: bytes, channel: str | None, done: Callable[[Outcome], None]) -> None:
        self.id = command_id
        self.wire = wire
        self.channel = channel
        self.done = done
        self.attempts = 0


class Outbox:
    """The unanswered commands, oldest first."""

    __slots__ = ("_held", "_pending", "_waiting")

    def __init__(self) -> None:
        self._pending: dict[str, Command] = {}
        self._held: dict[str | None, float] = {}
        self._waiting: dict[str, Command] = {}

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
        if command.channel in self._held:
            self._waiting[command.id] = command
            return False
        return True

    def settle(self, command_id: str, outcome: Outcome) -> None:
        """The answer came. A second answer, or one to a forgotten command, is passed over."""
        command = self.forget(command_id)
        if command is not None:
            command.done(outcome)

    def forget(self, command_id: str) -> Command | None:
        """Its caller gave it up: neither sent again nor reported."""
        self._waiting.pop(command_id, None)
        return self._pending.pop(command_id, None)

    def refuse(self, command_id: str, error: HubError, due: float) -> bool:
        """An error came. True when the command is kept, its channel held back until `due`; else it is settled."""
        command = self._pending[command_id]
        command.attempts += 1
        later = error.retry in (Retry.BACKOFF, Retry.NOW)
        if not later or command.attempts >= _ATTEMPTS_MAX:
            self.settle(command_id, error)
            return False
        self._waiting[command_id] = command
        self._held[command.channel] = max(due, self._held.get(command.channel, 0.0))
        return True

    def attempts(self, command_id: str) -> int:
        """How often a pending command was refused so far."""
        return self._pending[command_id].attempts

    @property
    def due(self) -> float | None:
        """When the next held channel may go on; None when none is held."""
        return min(self._held.values(), default=None)

    def released(self, now: float) -> list[bytes]:
        """What may be sent now of what was held back, in the order given."""
        over = {channel for channel, due in self._held.items() if due <= now}
        if not over:
            return []
        for channel in over:
            del self._held[channel]
        ready = [command for command in self._in_order(self._waiting) if command.channel in over]
        for command in ready:
            del self._waiting[command.id]
        return [command.wire for command in ready]

    def resend(self) -> list[bytes]:
        """Everything unanswered, in the order given: what a new socket begins with."""
        self._held.clear()
        self._waiting.clear()
        return [command.wire for command in self._pending.values()]

    def oversized(self, limit_bytes: int) -> list[str]:
        """Ids of commands that this hub's limit forbids, although an earlier one's did not."""
        return [command.id for command in self._pending.values() if len(command.wire) > limit_bytes]

    def fail(self, error: ClientError) -> None:
        """Settle everything with `error`: no answer will come any more."""
        for command_id in list(self._pending):
            self.settle(command_id, error)

    def _in_order(self, some: dict[str, Command]) -> Iterator[Command]:
        return (command for command_id, command in self._pending.items() if command_id in some)
