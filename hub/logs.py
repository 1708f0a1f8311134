"""Logging: one JSON object per line, with secrets removed from every field, for our own log lines and those of libraries.

Nothing is logged per event. Each line has the fields of the work in progress (`streams.log_context`) that apply: `node` or
`worker`, `tenant`, `user` (a hash), `session`, `channel`, `command`, `event_id`, `correlation`, `causation`, `variant`, `code`.
Lines of one class are limited (`hub.log_flood`), and errors that are written are reported to the error tracker, if any.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from typing import Any, Final, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from hub.config import Settings
from hub.error_tracking import ErrorTracker, Fault, SentryTracker
from hub.log_flood import FloodGate, class_of
from streams.log_context import current_fields, set_hash_key

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

    def report(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Removes secrets from a report, which is deeper and larger than a line, and keeps its shape."""
        return {name: self._reported(value) for name, value in report.items()}

    def _reported(self, value: object) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {str(name): self._reported(one) for name, one in value.items()}
        if isinstance(value, list | tuple):
            return [self._reported(one) for one in value]
        return value


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


def _add_context(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Adds the fields of the work in progress; those of the line itself take precedence."""
    return {**current_fields(), **event}


def _without_class(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Removes the narrower class of errors, which is for the limits alone."""
    event.pop("error_class", None)
    return event


def _console_line(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    """Renders a line for people: time, severity, logger, text, then the fields; a traceback follows in lines of its own."""
    head = " ".join(str(event.pop(name, "")) for name in ("timestamp", "level", "logger", "event"))
    trace = str(event.pop("exception", ""))
    fields = "".join(f" {name}={json.dumps(value)}" for name, value in event.items())
    lines = [_printable(f"{head}{fields}"), *(f"    {_printable(line)}" for line in trace.splitlines())]
    return "\n".join(lines)


def _printable(text: str) -> str:
    """Escapes everything but printable ASCII, so that no input moves the cursor of a terminal."""
    return "".join(char if " " <= char <= "~" else char.encode("unicode_escape").decode() for char in text)


def processors(secrets: Iterable[str] = (), log_format: str = "json") -> list[Processor]:
    """Returns the steps from a log event to a line of text. Tracebacks become text first, so that they are redacted too."""
    # ASCII only, so that no line break, escape sequence or bidirectional mark of an input reaches a terminal unescaped.
    json_line = structlog.processors.JSONRenderer(ensure_ascii=True, sort_keys=False)
    return [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        _without_class,
        redactor(secrets),
        _console_line if log_format == "console" else json_line,
    ]


_OF_RECORDS: Final = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {"message", "error_class"}


class LineHandler(logging.StreamHandler[TextIO]):
    """Writes lines within the limits of `FloodGate`, and reports the errors among them.

    Args:
        stream: where lines are written.
        redaction: removes secrets from reports.
        tracker: where errors are reported; None nowhere.
    """

    def __init__(self, stream: TextIO, redaction: Redaction, tracker: ErrorTracker | None = None) -> None:
        super().__init__(stream)
        self._redaction, self._tracker = redaction, tracker
        self._gate = FloodGate(self._write)
        self.addFilter(self._gate)

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a line, and reports it if it is an error."""
        super().emit(record)
        if self._tracker is not None and record.levelno >= logging.ERROR:
            try:
                self._tracker.capture(self._fault(record))
            except Exception:  # as a failed write: told, and never raised into the work that logs
                self.handleError(record)

    def close(self) -> None:
        """Tells what was left out, sends the last reports, and closes."""
        self._gate.close()
        if self._tracker is not None:
            self._tracker.close()
        super().close()

    def _write(self, record: logging.LogRecord) -> None:
        """Writes a number of lines left out. It is no error of its own: reported, each number would be another one."""
        with self.lock or nullcontext():
            super().emit(record)

    def _fault(self, record: logging.LogRecord) -> Fault:
        own = {name: value for name, value in vars(record).items() if name not in _OF_RECORDS}
        if isinstance(record.msg, dict):  # structlog's
            own |= record.msg
        text = own.pop("event", None) or record.getMessage()
        return Fault(
            self._redaction.text(str(text)),
            record.levelname.lower(),
            record.name,
            self._redaction.fields(current_fields() | own),
            record.exc_info[1] if record.exc_info else None,
            tuple(map(str, class_of(record))),
        )


def configure_logging(
    level: int | str = logging.INFO,
    *,
    secrets: Iterable[str] = (),
    stream: TextIO | None = None,
    log_format: str = "json",
    hash_key: str = "",
    sentry_dsn: str | None = None,
    tracker: ErrorTracker | None = None,
) -> logging.Handler:
    """Sets up structlog and the standard library's logging for this process.

    Args:
        level: lowest severity that is written, as a number or by its name.
        secrets: texts to remove wherever they occur: the JWT secret, the Redis password, S3 keys.
        stream: where lines are written; standard error by default.
        log_format: `json`, or `console` for people.
        hash_key: a secret without which the hash of a user cannot be found by trying names.
        sentry_dsn: the address of the Sentry project to report errors to.
        tracker: another place to report errors to.

    Returns:
        The handler, so that it can be removed.

    Raises:
        SettingRefused: the Sentry project cannot be used.
    """
    secrets = list(secrets)
    set_hash_key(hash_key)
    redaction = Redaction(secrets)
    if tracker is None and sentry_dsn is not None:
        tracker = SentryTracker(sentry_dsn, redaction.report)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_context,
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
    handler = LineHandler(stream or sys.stderr, redaction, tracker)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()], processors=processors(secrets, log_format)
        )
    )
    _take_over(handler, logging.getLevelNamesMapping()[level.upper()] if isinstance(level, str) else level)
    return handler


def log_as_set(settings: Settings, least: str = "debug") -> logging.Handler:
    """Sets up logging as the settings say, for lines of severity `least` or higher."""
    levels = logging.getLevelNamesMapping()
    return configure_logging(
        max(levels[settings.log_level.upper()], levels[least.upper()]),
        secrets=settings.secrets,
        log_format=settings.log_format,
        hash_key=settings.jwt_secret or "",
        sentry_dsn=settings.sentry_dsn,
    )


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
