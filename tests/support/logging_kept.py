"""Logging as it was: a test that sets it up for a process of its own leaves nothing behind."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

_NAMES = ("uvicorn", "uvicorn.error", "uvicorn.access", "arq", "asyncio", "botocore", "httpx")
"""The loggers that `hub.logs.configure_logging` changes, beside the root."""


@contextmanager
def logging_kept() -> Iterator[None]:
    """Puts back what `hub.logs.configure_logging` changes: its handler would write to the closed stream of an earlier test."""
    root, names = logging.getLogger(), [logging.getLogger(name) for name in _NAMES]
    handlers, level, levels = root.handlers[:], root.level, [logger.level for logger in names]
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        for logger, before in zip(names, levels, strict=True):
            logger.setLevel(before)
        logging.captureWarnings(capture=False)
        structlog.reset_defaults()
