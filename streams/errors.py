"""The errors of the log. Pure."""

from __future__ import annotations


class StreamsError(Exception):
    """The base of every error this package raises on purpose."""


class MalformedChannel(StreamsError):
    """The text is not `kind:name` by the channel grammar, or its kind is unknown."""


class MalformedCursor(StreamsError):
    """The text is not a Redis Stream ID, `0` or `$`."""


class LogUnavailable(StreamsError):
    """Redis is unreachable or too slow. Nothing was stored, or the same command id may safely be sent again."""


class RightMissing(LogUnavailable):
    """Redis refuses the hub's user until an operator grants it the right. The same call may be made again then."""


class ConfigurationRefused(StreamsError):
    """The Redis server must not be used as it is set up; the text names the setting and what is needed."""


class RecordDamaged(StreamsError):
    """The record of a channel beside its events is not one that the hub wrote."""


class IdempotencyConflict(StreamsError):
    """The command id was used before, by the same user, with another body."""


class CommandIdsFull(StreamsError):
    """The user sent more commands than are remembered; nothing was stored. The same id may be sent again later."""


class GuardRefused(StreamsError):
    """A guard of the draft did not hold when the script looked.

    Attributes:
        field: the guarded field that did not match.
        present: what it holds now; None when it holds nothing.
    """

    def __init__(self, field: str, present: str | None) -> None:
        super().__init__(f"{field} is {present!r}")
        self.field = field
        self.present = present


class CommandRefused(Exception):
    """Redis rejected a command as wrong: a key holds something the hub did not write, or a group or a stream is gone.

    Not a `StreamsError`: a caller that does not expect it has hit a bug, and the client only learns of an internal error.

    Attributes:
        code: the first word of the reply, such as WRONGTYPE.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"Redis refused a command: {text}")
        self.code = code
