"""The errors that the log raises. Pure."""

from __future__ import annotations


class StreamsError(Exception):
    """The base of every error this package raises on purpose."""


class MalformedChannel(StreamsError):
    """The text is not `kind:name` by the channel grammar, or its kind is unknown."""


class MalformedCursor(StreamsError):
    """The text is neither a Redis Stream ID nor `0` nor `$`."""


class LogUnavailable(StreamsError):
    """Redis is unreachable or too slow. If the outcome is unknown, the same command ID may safely be sent again."""


class PartitionMoving(LogUnavailable):
    """Another server of the Redis Cluster holds the keys, or is about to. The command was not executed."""


class RightMissing(LogUnavailable):
    """The hub's Redis user lacks a permission. The same call may be repeated once an operator has granted it."""


class ArchiveUnavailable(LogUnavailable):
    """The archive's store is unreachable, too slow or full. The same call may be repeated."""


class ArchiveDiffers(StreamsError):
    """The archive is not what was recorded: something is missing, was changed or rolled back. The text names it."""


class TimestampRefused(StreamsError):
    """A time-stamping authority does not answer, or its stamp proves nothing; the text says why."""


class ChannelUnverified(StreamsError):
    """A channel cannot be verified: nothing knows it, or it was trimmed during every attempt."""


class ConfigurationRefused(StreamsError):
    """The Redis server's configuration is unsafe for the log; the text names the setting and the required value."""


class WriterExcluded(StreamsError):
    """Another command that writes to the log runs, and excludes this one; the text names it."""


class RecordDamaged(StreamsError):
    """A channel's record in Redis does not have the form in which the hub writes it."""


class IdempotencyConflict(StreamsError):
    """The same user already used the command ID with a different body."""


class CommandIdsFull(StreamsError):
    """The user has sent more commands than the log can remember; nothing was stored. The same ID may be sent again later."""


class GuardRefused(StreamsError):
    """A guard of the draft did not hold; nothing was stored.

    Attributes:
        field: the guarded field that did not match.
        present: its current value; None when it has none.
    """

    def __init__(self, field: str, present: str | None) -> None:
        super().__init__(f"{field} is {present!r}")
        self.field = field
        self.present = present


class CommandRefused(Exception):
    """Redis rejected a command as invalid: a key holds data that the hub did not write, or a group or stream is missing.

    Not a `StreamsError`: a caller that does not expect it has hit a bug, and the client gets an internal error.

    Attributes:
        code: the first word of the reply, such as WRONGTYPE.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"Redis refused a command: {text}")
        self.code = code
