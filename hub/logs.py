"""Logging: one JSON object a line, secrets taken out of every field, for our log lines and for those of libraries.

Nothing is logged per event. Bound keys are `node`, `tenant`, `user`, `session`, `correlation`, `code`.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from typing import Any, Final, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from hub.redaction import Redaction

_QUIET: Final = {"botocore": logging.WARNING, "httpx": logging.WARNING, "uvicorn.access": logging.WARNING}
"""Loggers that write a line for each request; metrics count those."""


def redactor(secrets: Iterable[str] = ()) -> Processor:
    """Make the processor that redacts a whole log line, the last before the line is written."""
    redaction = Redaction(secrets)

    def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        return dict(redaction.fields(event))

    return redact


def processors(secrets: Iterable[str] = ()) -> list[Processor]:
    """The steps from an event to a line of text. Tracebacks become text first, so that they are redacted too."""
    return [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        redactor(secrets),
        # ASCII only: no line break, escape sequence or bidirectional mark of an input reaches a terminal as itself.
        structlog.processors.JSONRenderer(ensure_ascii=True, sort_keys=False),
    ]


def configure_logging(
    level: int = logging.INFO, *, secrets: Iterable[str] = (), stream: TextIO | None = None
) -> logging.Handler:
    """Set up structlog and the standard library's logging for this process.

    Args:
        level: least severity written.
        secrets: texts taken out wherever they occur: the JWT secret, the Redis password, S3 keys.
        stream: where lines go; standard error.

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
    """Let every logger end in ours: libraries with handlers of their own would write unredacted lines."""
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
    """The `log_config` for uvicorn that leaves logging as `configure_logging` set it up."""
    return {"version": 1, "disable_existing_loggers": False}
