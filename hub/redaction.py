"""Takes secrets out of values about to be logged. Pure.

It errs on the side of taking too much: every query string of a URL goes, and every field whose name says secret. It does
not make text safe to render; the JSON writer behind it escapes control characters and line breaks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

REDACTED: Final = "[redacted]"

_SECRET_NAME: Final = re.compile(
    r"token|secret|passw|authorization|cookie|credential|signature|api_?key|private_?key|access_?key|jwt(?!_audience|_issuer)"
    r"|presigned|^auth$|^sig$",
    re.IGNORECASE,
)
# Every repetition that can fail is bounded, so that no text, however hostile, costs more than time in proportion to it.
_SECRET_TEXT: Final = (
    # A JWT, whole or cut off anywhere: a header always begins with `{"`, in base64 `eyJ`.
    (re.compile(r"eyJ[A-Za-z0-9_-]{6,}(?:\.[A-Za-z0-9_=-]*){0,4}"), REDACTED),
    (re.compile(r"\b(bearer|basic)\s+[^\s\"',;]+", re.IGNORECASE), rf"\1 {REDACTED}"),
    (re.compile(r"(://)[^/\s@\"']*@"), rf"\1{REDACTED}@"),
    # The query of a URL or of a request line. Presigned URLs carry their whole authority there.
    (re.compile(r"\?[^\s\"'<>?=]{0,256}=[^\s\"'<>]*"), f"?{REDACTED}"),
    (
        re.compile(
            r"\b((?:x-amz-[a-z-]{1,40}|aws_?access_?key_?id|signature|sig|(?:\w{0,32}_)?(?:token|secret)|password|authorization)"
            r"[\"']?\s{0,8}[=:]\s{0,8}[\"']?)[^\s\"'&,;)}]+",
            re.IGNORECASE,
        ),
        rf"\1{REDACTED}",
    ),
)

TEXT_CHARS_MAX: Final = 4_096
"""A longer text is cut: one hostile frame must not fill a disk of logs."""

_SEARCHED_CHARS_MAX: Final = 65_536
"""Text beyond this is not even searched: searching costs about 1 ms for this much."""

ITEMS_MAX: Final = 64
DEPTH_MAX: Final = 6

Loggable = str | int | float | bool | None | list["Loggable"] | dict[str, "Loggable"]


class Redaction:
    """Redacts values of any shape.

    Args:
        secrets: texts to take out wherever they occur, whatever the field: the configured keys and passwords.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = sorted({secret for secret in secrets if len(secret) >= 4}, key=len, reverse=True)  # noqa: PLR2004

    def text(self, value: str) -> str:
        """Remove known secrets and everything that looks like one, and cut to the greatest length."""
        for secret in self._secrets:
            value = value.replace(secret, REDACTED)
        is_endless = len(value) > _SEARCHED_CHARS_MAX
        value = value[:_SEARCHED_CHARS_MAX]
        for pattern, replacement in _SECRET_TEXT:
            value = pattern.sub(replacement, value)
        if len(value) <= TEXT_CHARS_MAX:
            return value
        # The end of a traceback says what happened. The end of an endless text might begin inside a token.
        tail = "" if is_endless else value[-TEXT_CHARS_MAX // 2 :]
        return f"{value[: TEXT_CHARS_MAX // 2]}… [cut]{tail}"

    def value(self, value: object, depth: int = 0) -> Loggable:
        """The value as plain JSON types, redacted throughout. Objects are taken by their `repr`."""
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, bytes | bytearray):
            return self.text(bytes(value[: _SEARCHED_CHARS_MAX + 1]).decode("utf-8", "backslashreplace"))
        if isinstance(value, Mapping | list | tuple | set | frozenset):
            return self._collection(value, depth + 1)
        return self.text(_repr(value))

    def _collection(self, value: Mapping[Any, object] | Iterable[object], depth: int) -> Loggable:
        if depth > DEPTH_MAX:
            return "… [too deep]"
        if isinstance(value, Mapping):
            return self.fields(value, depth)
        return [self.value(item, depth) for _, item in zip(range(ITEMS_MAX), value, strict=False)]

    def fields(self, fields: Mapping[Any, object], depth: int = 0) -> dict[str, Loggable]:
        """The fields, those named like a secret without their value. Names are redacted too."""
        return {
            self.text(str(name)): REDACTED if _SECRET_NAME.search(str(name)) else self.value(value, depth)
            for _, (name, value) in zip(range(ITEMS_MAX), fields.items(), strict=False)
        }


def _repr(value: object) -> str:
    try:
        return repr(value)
    except Exception as error:  # a log line about a broken object must not break what it reports
        return f"<{type(value).__name__} whose repr raised {type(error).__name__}>"
