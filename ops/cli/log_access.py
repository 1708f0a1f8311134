"""Opens the log for commands that read or write it directly: on the given Redis, or on the embedded one's data.

Only `hub import` creates a log; if there is none, the other commands report where they looked.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from hub.config import Settings
from hub.storage.archive import StoreArchive
from hub.storage.choice import open_seals, reading_archive
from ops.cli.failure import CommandFailed
from ops.cli.options import operator_name
from ops.cli.running_hub import running_hub
from ops.embedded_redis.server import EmbeddedRedis, holds_data
from streams.audit.deletion_records import DeletionRecords
from streams.channel import Channel
from streams.records.writers import Writer, holding
from streams.redis.calls import Calls
from streams.redis.deleted import Deletion
from streams.redis.log import Log
from streams.redis.server_check import kept_keys
from streams.redis.stored import ChannelRecord, StoredLog


@contextlib.contextmanager
def redis_at(url: str, data: Path) -> Iterator[str]:
    """The URL of the Redis to use: `url`, or that of the hub running on `data`, or that of an embedded one that runs meanwhile."""
    if address := url or _redis_beside(data):
        yield address
        return
    with EmbeddedRedis(data) as embedded:
        yield embedded.url


def _redis_beside(data: Path) -> str:
    here = running_hub(data)
    return here.redis_url if here else ""


@contextlib.contextmanager
def present_redis_at(url: str, data: Path) -> Iterator[str]:
    """The URL as from `redis_at`; but no server is started in a folder without data.

    Raises:
        CommandFailed: there is no data in the folder.
    """
    if not url and not _redis_beside(data) and not holds_data(data):
        raise no_log(url, data)
    with redis_at(url, data) as address:
        yield address


def own_writer(name: str, scope: str, *, is_alone: bool) -> Writer:
    """This process as a command that writes, with the words by which others find it."""
    by = f"{operator_name('')} on {socket.gethostname()}, process {os.getpid()}, since {datetime.now(UTC):%F %T} UTC"
    return Writer(scope, is_alone, name, by)


@contextlib.asynccontextmanager
async def log_at(url: str, data: Path, *, may_begin: bool, writer: Writer | None) -> AsyncIterator[Log]:
    """Open the log on that Redis, with the number of partitions it was created with, regardless of the settings.

    Args:
        url: the Redis; "" for the embedded one.
        data: the folder of the embedded Redis.
        may_begin: create a log if there is none.
        writer: the command, whose lease is held meanwhile; None for one that changes nothing.

    Raises:
        CommandFailed: there is no log, and none may be created.
        WriterExcluded: a command runs that excludes this one.
    """
    settings = replace(Settings.from_env(os.environ), data_dir=str(data), retention=None)
    with (redis_at if may_begin else present_redis_at)(url, data) as address:
        calls = Calls.at(address, "hub-cli")
        try:
            keys = await kept_keys(calls)
        finally:
            calls.close()
        if keys is None and not may_begin:
            raise no_log(url, data)
        partitions = keys.partitions if keys else settings.partitions
        held = contextlib.nullcontext() if writer is None else holding(address, writer)
        async with reading_archive(settings) as (_, cold), held:
            log = await Log.open(address, partitions=partitions, cold=cold, seals=open_seals(settings))
            try:
                yield log
            finally:
                await log.close()


@contextlib.asynccontextmanager
async def stored_log_at(url: str, data: Path, *, opens: bool = False) -> AsyncIterator[StoredLog]:
    """Open the log for reading only.

    Args:
        url: the Redis; "" for the embedded one.
        data: the folder of the embedded Redis.
        opens: open sealed payloads, if HUB_SUBJECT_KEYS names the store of their keys.

    Raises:
        CommandFailed: there is no log.
    """
    settings = replace(Settings.from_env(os.environ), data_dir=str(data), retention=None)
    with present_redis_at(url, data) as address:
        async with reading_archive(settings) as (_, cold):
            seals = open_seals(settings) if opens else None
            log = await StoredLog.open(address, cold, seals)
            if log is None:
                raise no_log(url, data)
            try:
                yield log
            finally:
                log.close()
                if seals is not None:
                    await seals.close()


@contextlib.asynccontextmanager
async def archive_at(data: Path) -> AsyncIterator[StoreArchive | None]:
    """Open the archive of the bucket or of this data folder, for reading; None if there is none."""
    settings = replace(Settings.from_env(os.environ), data_dir=str(data), retention=None)
    async with reading_archive(settings) as (archive, _):
        yield archive


async def record_of(log: StoredLog, channel: Channel) -> ChannelRecord:
    """The channel's record.

    Raises:
        CommandFailed: there is no such channel, or it was deleted and not written since.
    """
    record = await log.record(channel)
    if not record.seq and (deletion := record.deletion or await _deletion_on_record(log, channel, record)) is not None:
        raise CommandFailed(f"{channel.wire} was {deletion.told}")
    if not record.is_known:
        raise CommandFailed(f"no such channel: {channel.wire} of tenant {channel.tenant}")
    return record


async def _deletion_on_record(log: StoredLog, channel: Channel, record: ChannelRecord) -> Deletion | None:
    """The deletion of a channel that Redis does not know, as after a restore."""
    found = None if record.is_known else await DeletionRecords(channel.tenant, log).last_of(channel)
    return found.deletion if found else None


def no_log(url: str, data: Path) -> CommandFailed:
    """The error for a place without a log."""
    return CommandFailed(f"no log here (looked in {without_password(url) or data.absolute()}); see --redis and --data")


def without_password(url: str) -> str:
    """The URL without its password, for display."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"
