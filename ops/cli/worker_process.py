"""A worker put together: what HUB_AGENTS names, the demo agent where it is wanted, and the end of uploads."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from consumers.handlers.files import FileReactions
from consumers.worker import Worker, WorkerOptions, running
from hub.config import Settings
from hub.uploads.finishing import open_finisher


@asynccontextmanager
async def running_worker(settings: Settings, options: WorkerOptions) -> AsyncIterator[Worker]:
    """A worker that runs inside the block and also finishes uploads.

    Raises:
        LogUnavailable, ConfigurationRefused: Redis is away, or must not be used as it is.
    """
    async with open_finisher(settings) as finisher:
        handlers = (*options.handlers, FileReactions(finisher))
        async with running(dataclasses.replace(options, handlers=handlers)) as worker:
            yield worker
