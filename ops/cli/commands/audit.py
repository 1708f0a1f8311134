"""Check that a channel's events are complete, unrepeated, undamaged, in order, and the ones that were recorded."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.failure import EXIT_USAGE, CommandFailed
from ops.cli.options import DEFAULT_DATA, Data, Redis, Tenant, channel_of, new_app, run

if TYPE_CHECKING:
    from ops.cli.channel_audit import ArchiveEvidence, Audit
    from streams.archive.notes import PublicKey
    from streams.channel import Channel
    from streams.redis.stored import StoredLog

app = new_app()


@app.callback()
def audit() -> None:
    """Check that a channel's events are complete, unrepeated, undamaged, in order, and the ones that were recorded.

    Example: hub audit verify conversation:42 --tenant acme
    """


@app.command()
def verify(
    tenant: Tenant,
    channel: Annotated[str, typer.Argument(help="kind:name, such as conversation:42.")] = "",
    is_all: Annotated[
        bool, typer.Option("--all", help="All channels of the tenant, and every checkpoint; a line for each channel.")
    ] = False,
    key: Annotated[
        list[str] | None,
        typer.Option(
            help="A public key that checkpoints may be signed with; several are allowed.  [default: this hub's]"
        ),
    ] = None,
    known: Annotated[
        list[Path] | None,
        typer.Option(help="A signed checkpoint that was kept elsewhere.", exists=True, dir_okay=False, readable=True),
    ] = None,
    is_archive_only: Annotated[
        bool, typer.Option("--archive-only", help="Read the archive alone, without any Redis.")
    ] = False,
    redis: Redis = "",
    data: Data = DEFAULT_DATA,
) -> None:
    """Print the result as a JSON object; exit with 1 if an event is missing, repeated, out of order, damaged or changed.

    With an archive each event is compared with its leaf in a tree whose root is under a signed checkpoint. Without one,
    an ID changed without changing the order is not detected. Nothing is written.

    Example: hub audit verify conversation:42 --tenant acme
    """
    if is_all == bool(channel):
        raise CommandFailed("name a channel, or use --all", EXIT_USAGE)
    places = [channel_of(tenant, channel)] if channel else []
    kept = [path.read_bytes() for path in known or ()]
    bad = run(_verify(redis, data, tenant, places, key or [], kept, is_archive_only=is_archive_only))
    if bad:
        raise CommandFailed(bad)


@app.command(name="key")
def key_(data: Data = DEFAULT_DATA) -> None:
    """Print the public key that this hub's checkpoints are signed with, for auditors and witnesses.

    Example: hub audit key
    """
    found = _keys([], data)
    if not found:
        raise CommandFailed("there is no key yet: a worker makes it when HUB_RETENTION is set")
    print(found[0])


async def _verify(
    redis: str, data: Path, tenant: str, places: list[Channel], keys: list[str], known: list[bytes], *,
    is_archive_only: bool,
) -> str:  # fmt: skip # its arguments in two groups
    """Print a report for each channel; returns the line that says that something is wrong, or ""."""
    from ops.cli.channel_audit import verify_archive, verify_log

    bad: list[str] = []
    async with _evidence(data, tenant, _keys(keys, data), known, is_full=not places) as evidence:
        if is_archive_only:
            if evidence is None:
                raise CommandFailed(f"there is no archive in {data}; see --data and S3_BUCKET")
            for place in places or _named(evidence):
                _tell(place, await verify_archive(place, evidence), bad)
        else:
            async with _log(redis, data) as log:
                for place in places or await _all(log, tenant, evidence):
                    _tell(place, await verify_log(log, place, evidence), bad)
    if not places and evidence is not None:
        bad += evidence.record.faults
    return "" if not bad else bad[0] if places else f"{len(bad)} of these are not intact; {bad[0]}"


def _tell(place: Channel, found: Audit, bad: list[str]) -> None:
    print(json.dumps(found.to_json()))
    if found.faults:
        bad.append(f"{place.wire} is not intact from seq {found.first_bad_seq}: {found.faults[0]}")


def _keys(given: list[str], data: Path) -> list[PublicKey]:
    """The keys given, or the one of the hub on this data folder; none if there is no such key."""
    import os
    from dataclasses import replace

    from hub.config import Settings
    from hub.storage.choice import audit_key_path
    from streams.archive.notes import NoteRefused, PublicKey, Signer

    try:
        if given:
            return [PublicKey.parse(text) for text in given]
        path = audit_key_path(replace(Settings.from_env(os.environ), data_dir=str(data)))
        return [Signer.parse(path.read_text()).public] if path.exists() else []
    except NoteRefused as error:
        raise CommandFailed(str(error), EXIT_USAGE if given else 1) from error


@asynccontextmanager
async def _evidence(
    data: Path, tenant: str, keys: list[PublicKey], known: list[bytes], *, is_full: bool
) -> AsyncIterator[ArchiveEvidence | None]:
    from ops.cli.archive_audit import read_heads
    from ops.cli.channel_audit import ArchiveEvidence
    from ops.cli.log_access import archive_at

    async with archive_at(data) as archive:
        if archive is None:
            yield None
            return
        again = partial(read_heads, archive, tenant, keys, known)
        yield ArchiveEvidence(archive, await again(is_full=is_full), again)


@asynccontextmanager
async def _log(redis: str, data: Path) -> AsyncIterator[StoredLog]:
    from ops.cli.log_access import stored_log_at

    async with stored_log_at(redis, data) as log:
        yield log


def _named(evidence: ArchiveEvidence) -> list[Channel]:
    """The channels that the log of heads names."""
    from streams.channel import channel_from_path

    return [channel_from_path(path) for path in sorted(evidence.record.heads)]


async def _all(log: StoredLog, tenant: str, evidence: ArchiveEvidence | None) -> list[Channel]:
    """The channels of the directory and of the log of heads."""
    from ops.cli.listed_channels import listed_channels

    found = {one.channel async for one in listed_channels(log, tenant, "*")}
    found |= set(_named(evidence)) if evidence else set()
    if not found:
        raise CommandFailed(f"tenant {tenant} has no channels")
    return sorted(found)
