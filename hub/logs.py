"""Logging: one JSON object per line, with secrets removed from every field, for our own log lines and those of libraries.

Nothing is logged per event. Bound keys are `node`, `tenant`, `user`, `session`, `correlation` and `code`.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

REDACTED: Final = "[redacted]"

_SECRET_NAME: Final = re.compile(
    r"token|secret|passw|authorization|cookie|credential|signature|api_?key|private_?key|access_?key|jwt(?!_audience|_issuer)"
    r"|presigned|^auth$|^sig$",
    re.IGNORECASE,
)
# Every repetition that can fail is bounded, so that even a hostile text costs only time proportional to its length.
_SECRET_TEXT: Final = (
    # A JWT, complete or truncated: its header always begins with `{"`, which is `eyJ` in base64.
    (re.compile(r"eyJ[A-Za-z0-9_-]{6,}(?:\.[A-Za-z0-9_=-]*){0,4}"), REDACTED),
    (re.compile(r"\b(bearer|basic)\s+[^\s\"',;]+", re.IGNORECASE), rf"\1 {REDACTED}"),
    (re.compile(r"(://)[^/\s@\"']*@"), rf"\1{REDACTED}@"),
    # The query of a URL or of a request line. The query of a presigned URL is all that is needed to use it.
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
"""Maximum characters of a logged text; longer ones are cut, so that no message can fill the disk."""

_SEARCHED_CHARS_MAX: Final = 65_536
"""Maximum characters that are searched for secrets, which takes about 1 ms; the rest is dropped."""

ITEMS_MAX: Final = 64
DEPTH_MAX: Final = 6

Loggable = str | int | float | bool | None | list["Loggable"] | dict[str, "Loggable"]


class Redaction:
    """Removes secrets from values of any shape.

    Args:
        secrets: texts to remove wherever they occur: the configured keys and passwords.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = sorted({secret for secret in secrets if len(secret) >= 4}, key=len, reverse=True)  # noqa: PLR2004

    def text(self, value: str) -> str:
        """Removes known secrets and everything that looks like one, and cuts the text to its maximum length."""
        for secret in self._secrets:
            value = value.replace(secret, REDACTED)
        is_endless = len(value) > _SEARCHED_CHARS_MAX
        value = value[:_SEARCHED_CHARS_MAX]
        for pattern, replacement in _SECRET_TEXT:
            value = pattern.sub(replacement, value)
        if len(value) <= TEXT_CHARS_MAX:
            return value
        # A traceback ends with what happened, so its end is kept; the end of a much longer text might begin inside a token.
        tail = "" if is_endless else value[-TEXT_CHARS_MAX // 2 :]
        return f"{value[: TEXT_CHARS_MAX // 2]}… [cut]{tail}"

    def value(self, value: object, depth: int = 0) -> Loggable:
        """Converts a value to plain JSON types with all secrets removed. Objects become their `repr`."""
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
        """Converts the fields; those whose names suggest a secret lose their value. Names are redacted too."""
        return {
            self.text(str(name)): REDACTED if _SECRET_NAME.search(str(name)) else self.value(value, depth)
            for _, (name, value) in zip(range(ITEMS_MAX), fields.items(), strict=False)
        }


def _repr(value: object) -> str:
    try:
        return repr(value)
    except Exception as error:  # a log line about a broken object must not fail itself
        return f"<{type(value).__name__} whose repr raised {type(error).__name__}>"


_QUIET: Final = {"botocore": logging.WARNING, "httpx": logging.WARNING, "uvicorn.access": logging.WARNING}
"""Loggers that write a line per request; metrics count requests instead."""


def redactor(secrets: Iterable[str] = ()) -> Processor:
    """Returns the processor that redacts a whole log line, the last one before it is written."""
    redaction = Redaction(secrets)

    def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        return dict(redaction.fields(event))

    return redact


def processors(secrets: Iterable[str] = ()) -> list[Processor]:
    """Returns the steps from a log event to a line of text. Tracebacks become text first, so that they are redacted too."""
    return [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        redactor(secrets),
        # ASCII only, so that no line break, escape sequence or bidirectional mark of an input reaches a terminal unescaped.
        structlog.processors.JSONRenderer(ensure_ascii=True, sort_keys=False),
    ]


def configure_logging(
    level: int = logging.INFO, *, secrets: Iterable[str] = (), stream: TextIO | None = None
) -> logging.Handler:
    """Sets up structlog and the standard library's logging for this process.

    Args:
        level: lowest severity that is written.
        secrets: texts to remove wherever they occur: the JWT secret, the Redis password, S3 keys.
        stream: where lines are written; standard error by default.

    Returns:
        The handler, so that it can be removed.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()], processors=processors(secrets)
        )
    )
    _take_over(handler, level)
    return handler


def _take_over(handler: logging.Handler, level: int) -> None:
    """Routes every logger through our handler: libraries with their own handlers would write unredacted lines."""
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "arq", "asyncio"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    for name, least in _QUIET.items():
        logging.getLogger(name).setLevel(max(level, least))
    logging.captureWarnings(capture=True)


def uvicorn_log_config() -> dict[str, Any]:
    """Returns a `log_config` for uvicorn that keeps logging as `configure_logging` set it up."""
    return {"version": 1, "disable_existing_loggers": False}
