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
from ops.cli.options import DEFAULT_DATA, Data, Redis, Tenant, channel_of, event_id, new_app, run

if TYPE_CHECKING:
    from streams.archive.notes import PublicKey
    from streams.audit.channel_check import ArchiveEvidence, Audit
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


@app.command()
def prove(
    channel: Annotated[str, typer.Argument(help="kind:name, such as conversation:42.")],
    event: Annotated[str, typer.Argument(help="The event's ID.")],
    tenant: Tenant,
    redis: Redis = "",
    data: Data = DEFAULT_DATA,
) -> None:
    """Print the proof that an event is under the newest checkpoint, as a JSON object of about 2 KB.

    Example: hub audit prove conversation:42 1795367479511-0 --tenant acme > proof.json
    """
    print(run(_prove(redis, data, channel_of(tenant, channel), event_id(event, "EVENT"))))


@app.command()
def check(
    proof: Annotated[
        Path, typer.Argument(help="A proof, as `hub audit prove` prints it.", exists=True, dir_okay=False)
    ],
    event: Annotated[
        Path,
        typer.Option(
            help="A file whose first line is the event, as `hub replay --format jsonl` prints it.",
            exists=True,
            dir_okay=False,
        ),
    ],
    key: Annotated[list[str], typer.Option(help="A public key that may have signed; several are allowed.")],
) -> None:
    """Check a proof with nothing but the event, the proof and public keys; exit with 1 if it proves nothing.

    Example: hub audit check proof.json --event event.jsonl --key "$(cat hub.key.pub)"
    """
    from streams.archive.notes import NoteRefused, PublicKey
    from streams.archive.proofs import EventProof, ProofRefused

    try:
        keys = [PublicKey.parse(text) for text in key]
        given = EventProof.parse(proof.read_bytes())
        opened = given.check(event.read_bytes().partition(b"\n")[0], keys)
    except NoteRefused as error:
        raise CommandFailed(str(error), EXIT_USAGE) from error
    except ProofRefused as error:
        raise CommandFailed(f"not proved: {error}") from error
    print(f"event {given.seq} of {given.head.channel} is under the checkpoint of {opened.checkpoint.origin}", end="")
    print(f" with {opened.checkpoint.size} heads, signed by {', '.join(opened.signers)}")


@app.command()
def checkpoints(
    tenant: Tenant,
    limit: Annotated[int, typer.Option(help="Maximum number, newest first.", min=1, max=100_000)] = 20,
    out: Annotated[Path | None, typer.Option(help="Also write the newest to this file, to be kept elsewhere.")] = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Print the newest checkpoints of a tenant, one JSON object per line.

    Example: hub audit checkpoints --tenant acme --limit 1 --out /mnt/elsewhere/acme.checkpoint
    """
    found = run(_checkpoints(data, tenant, limit))
    if not found:
        raise CommandFailed(f"tenant {tenant} has no checkpoint")
    if out is not None:
        out.write_bytes(found[0][1])
    for number, note in found:
        print(json.dumps(_facts_of(number, note)))


def _facts_of(number: int, note: bytes) -> dict[str, object]:
    from streams.archive.notes import read_checkpoint

    checkpoint = read_checkpoint(note)
    times = [int(line.removeprefix("time ")) for line in checkpoint.extra if line.startswith("time ")]
    facts = {"number": number, "origin": checkpoint.origin, "heads": checkpoint.size, "root": checkpoint.root.hex()}
    return facts | {"time": times[0] if times else None}


async def _checkpoints(data: Path, tenant: str, limit: int) -> list[tuple[int, bytes]]:
    from ops.cli.log_access import archive_at
    from streams.archive.heads import HeadLog

    async with archive_at(data) as archive:
        if archive is None:
            return []
        log = HeadLog(archive, tenant, "")
        count = await log.checkpoint_count()
        numbers = range(count, max(0, count - limit), -1)
        return [(number, note) for number in numbers if (note := await log.checkpoint(number)) is not None]


async def _prove(redis: str, data: Path, channel: Channel, wanted: str) -> str:
    from ops.cli.log_access import archive_at, stored_log_at
    from streams.audit.archive_check import prove as prove_event
    from streams.cursor import id_order

    ms, number = id_order(wanted)
    before = f"{ms}-{number - 1}" if number else f"{ms - 1}-18446744073709551615"
    async with stored_log_at(redis, data) as log, archive_at(data) as archive:
        found = await log.page(channel, before, upto=wanted)
        if not found or found[0].id.decode() != wanted:
            raise CommandFailed(f"{channel.wire} of tenant {channel.tenant} has no event {wanted}")
        if archive is None:
            raise CommandFailed(f"there is no archive in {data}; see --data and S3_BUCKET")
        return (await prove_event(archive, channel, found[0].seq)).to_json().decode()


async def _verify(
    redis: str, data: Path, tenant: str, places: list[Channel], keys: list[str], known: list[bytes], *,
    is_archive_only: bool,
) -> str:  # fmt: skip # its arguments in two groups
    """Print a report for each channel; returns the line that says that something is wrong, or ""."""
    from streams.audit.channel_check import verify_archive, verify_log

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
    from ops.cli.log_access import archive_at
    from streams.audit.archive_check import read_heads
    from streams.audit.channel_check import ArchiveEvidence

    async with archive_at(data) as archive:
        if archive is None:
            if known:
                raise CommandFailed(f"there is no archive in {data} to hold against it; see --data and S3_BUCKET")
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
