"""Restores logging after a test that configures it as a process of its own would."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from streams.log_context import PROCESS

_NAMES = ("uvicorn", "uvicorn.error", "uvicorn.access", "arq", "asyncio", "botocore", "httpx")
"""The loggers that `hub.logs.configure_logging` changes, besides the root logger."""


@contextmanager
def logging_kept() -> Iterator[None]:
    """Undo, after the block, the changes of `hub.logs.configure_logging`, whose handler would write to a closed stream."""
    root, names = logging.getLogger(), [logging.getLogger(name) for name in _NAMES]
    handlers, level, levels = root.handlers[:], root.level, [logger.level for logger in names]
    process = dict(PROCESS)
    PROCESS.clear()  # a node of an earlier test is no part of this one's lines
    try:
        yield
    finally:
        PROCESS.clear()
        PROCESS.update(process)
        root.handlers[:] = handlers
        root.setLevel(level)
        for logger, before in zip(names, levels, strict=True):
            logger.setLevel(before)
        logging.captureWarnings(capture=False)
        structlog.reset_defaults()
