"""Check that a channel's events are complete, unrepeated, undamaged, in order, and the ones that were recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from ops.cli.failure import EXIT_USAGE, CommandFailed
from ops.cli.options import DEFAULT_DATA, Data, From, Redis, Tenant, To, Types, channel_of, event_id, new_app, run
from ops.cli.output import is_terminal

if TYPE_CHECKING:
    from ops.cli.selection import Selection
    from streams.audit.channel_check import ArchiveEvidence, Audit
    from streams.audit.sources import AuditedChannel
    from streams.channel import Channel
    from streams.redis.stored import StoredLog

app = new_app()
ArchiveOnly: TypeAlias = Annotated[
    bool, typer.Option("--archive-only", help="Read the archive alone, without any Redis.")
]


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
    is_archive_only: ArchiveOnly = False,
    redis: Redis = "",
    data: Data = DEFAULT_DATA,
) -> None:
    """Print the result as a JSON object; exit with 1 if an event is missing, repeated, out of order, damaged or changed.

    With an archive each event is compared with its leaf in a tree whose root is under a signed checkpoint. Without one,
    an ID changed without changing the order is not detected. Nothing is written.

    Example: hub audit verify conversation:42 --tenant acme
    """
    place = _one_or_all(tenant, channel, is_all=is_all)
    places = [place] if place else []
    kept = [path.read_bytes() for path in known or ()]
    bad = run(_verify(redis, data, tenant, places, key or [], kept, is_archive_only=is_archive_only))
    if bad:
        raise CommandFailed(bad)


@app.command(name="key")
def key_(data: Data = DEFAULT_DATA) -> None:
    """Print the public key that this hub's checkpoints are signed with, for auditors and witnesses.

    Example: hub audit key
    """
    from ops.cli.audit_access import keys_of

    found = keys_of([], data)
    if not found:
        raise CommandFailed("there is no key yet: a worker makes it when HUB_RETENTION is set")
    print(found[0])


@app.command()
def prove(
    channel: Annotated[str, typer.Argument(help="kind:name, such as conversation:42.")],
    event: Annotated[str, typer.Argument(help="The event's ID.")],
    tenant: Tenant,
    is_archive_only: ArchiveOnly = False,
    redis: Redis = "",
    data: Data = DEFAULT_DATA,
) -> None:
    """Print the proof that an event is under the newest checkpoint, as a JSON object of about 2 KB.

    Example: hub audit prove conversation:42 1795367479511-0 --tenant acme > proof.json
    """
    place, wanted = channel_of(tenant, channel), event_id(event, "EVENT")
    print(run(_prove(redis, data, place, wanted, is_archive_only=is_archive_only)))


@app.command()
def consistency(
    known: Annotated[
        Path, typer.Argument(help="A signed checkpoint that was kept elsewhere.", exists=True, dir_okay=False)
    ],
    tenant: Tenant,
    data: Data = DEFAULT_DATA,
) -> None:
    """Print the proof that the newest checkpoint continues an older one, as a JSON object of at most 2 KB.

    Example: hub audit consistency acme.checkpoint --tenant acme > consistency.json
    """
    from streams.archive.notes import NoteRefused, read_checkpoint

    try:
        size = read_checkpoint(known.read_bytes()).size
    except NoteRefused as error:
        raise CommandFailed(f"{known}: {error}", EXIT_USAGE) from error
    print(run(_consistency(data, tenant, size)))


async def _consistency(data: Path, tenant: str, size: int) -> str:
    from ops.cli.audit_access import no_archive
    from ops.cli.log_access import archive_at
    from streams.audit.proving import Prover

    async with archive_at(data) as archive:
        if archive is None:
            raise no_archive(data)
        return (await Prover(archive, tenant).consistency(size)).to_json().decode()


@app.command()
def check(
    proof: Annotated[
        Path,
        typer.Argument(
            help="A proof, as `hub audit prove`, `hub audit consistency` or HTTP gives it, or a checkpoint.",
            exists=True,
            dir_okay=False,
        ),
    ],
    key: Annotated[list[str], typer.Option(help="A public key that may have signed; several are allowed.")],
    event: Annotated[
        Path | None,
        typer.Option(
            help="For the proof of an event: a file whose first line is the event, as `hub replay --format jsonl` prints it.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    known: Annotated[
        Path | None,
        typer.Option(help="For a proof of consistency: the older checkpoint.", exists=True, dir_okay=False),
    ] = None,
) -> None:
    """Check a proof or a checkpoint with nothing but public keys and what it is about; exit with 1 if it proves nothing.

    Example: hub audit check proof.json --event event.jsonl --key "$(cat hub.key.pub)"
    """
    from ops.cli.audit_check import checked

    print(checked(proof.read_bytes(), key, event, known))


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
    facts = {"number": number, "origin": checkpoint.origin, "heads": checkpoint.size, "root": checkpoint.root.hex()}
    return facts | {"time": checkpoint.time_s or None}


@app.command()
def channels(
    tenant: Tenant,
    pattern: Annotated[
        str, typer.Argument(help="kind:name, or only a name to match it in every kind; * stands for any text.")
    ] = "*",
    is_archive_only: ArchiveOnly = False,
    redis: Redis = "",
    data: Data = DEFAULT_DATA,
) -> None:
    """Print one line per channel: head, events that can be read, where they are, bytes, time of the newest event.

    `where` is hot (in Redis), cold (in the archive) or both. Channels that only the archive knows are listed too. In a pipe,
    each line is JSON.

    Example: hub audit channels --tenant acme
    """
    count = run(_channels(redis, data, tenant, pattern, is_archive_only=is_archive_only))
    if not count:
        raise CommandFailed(f"no channel of tenant {tenant} fits {pattern}")


async def _channels(redis: str, data: Path, tenant: str, pattern: str, *, is_archive_only: bool) -> int:
    from ops.cli.audit_access import source_at

    count = 0
    async with source_at(redis, data, tenant, is_archive_only=is_archive_only) as source:
        async for one in source.channels(tenant, pattern):
            print(_line(one), flush=True)
            count += 1
    return count


def _line(one: AuditedChannel) -> str:
    facts = one.to_json()
    if not is_terminal():
        return json.dumps(facts)
    size = f"{(one.hot_bytes + one.archive_bytes) / 1024:,.0f} KB"
    archived = f"archived to {one.archived_to}" if one.archived_to else "not archived"
    active = (facts["last_activity"] or "")[:16].replace("T", " ")
    told = (
        f"{one.channel.wire:<40}  #{one.head_seq:<9}  {one.count:>9} events  {one.where:<4}  {size:>12}  {archived:<22}"
    )
    return f"{told}  {active}" + (f"  {one.fault}" if one.fault else "")


@app.command()
def export(
    tenant: Tenant,
    out: Annotated[Path, typer.Option("--out", "-o", help="The file; it has this name only once it is whole.")],
    channel: Annotated[str, typer.Argument(help="kind:name, such as conversation:42.")] = "",
    is_all: Annotated[bool, typer.Option("--all", help="All channels of the tenant, one after the other.")] = False,
    format: Annotated[  # noqa: A002 - the flag's name
        str, typer.Option(help="jsonl (events as on the wire), csv, parquet or cloudevents (JSON lines).")
    ] = "jsonl",
    from_: From = "",
    to: To = "",
    types: Types = "",
    is_archive_only: ArchiveOnly = False,
    redis: Redis = "",
    data: Data = DEFAULT_DATA,
) -> None:
    """Write the events to a file, those in Redis and those in the archive; exit with 1 if some are missing or damaged.

    What is missing is named on stderr, and the file then has all the others. Parquet needs pyarrow
    (pip install 'realtime-hub[parquet]').

    Example: hub audit export conversation:42 --tenant acme --format csv -o history.csv
    """
    from ops.cli.selection import selection_of

    place = _one_or_all(tenant, channel, is_all=is_all)
    wanted = selection_of("0", from_, to, types)
    run(_export(redis, data, tenant, place, wanted, format, out, is_archive_only=is_archive_only))


def _one_or_all(tenant: str, channel: str, *, is_all: bool) -> Channel | None:
    if is_all == bool(channel):
        raise CommandFailed("name a channel, or use --all", EXIT_USAGE)
    return channel_of(tenant, channel) if channel else None


async def _export(
    redis: str, data: Path, tenant: str, place: Channel | None, wanted: Selection, form: str, out: Path, *,
    is_archive_only: bool,
) -> None:  # fmt: skip # its arguments in two groups
    from ops.cli.audit_access import source_at
    from ops.cli.audit_export import ExportFormat
    from ops.cli.audit_export import export as export_events

    if form not in set(ExportFormat):
        raise CommandFailed(f"--format must be one of {', '.join(ExportFormat)}", EXIT_USAGE)
    async with source_at(redis, data, tenant, is_archive_only=is_archive_only) as source:
        channels = [place] if place else [one.channel async for one in source.channels(tenant)]
        if not channels:
            raise CommandFailed(f"tenant {tenant} has no channels")
        count, holes = await export_events(source, channels, wanted, ExportFormat(form), out)
    print(json.dumps({"events": count, "channels": len(channels), "file": str(out), "whole": not holes.told}))
    if holes.told:
        raise CommandFailed(f"this is not all: {holes.told[0]}")


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


async def _prove(redis: str, data: Path, channel: Channel, wanted: str, *, is_archive_only: bool) -> str:
    from ops.cli.audit_access import no_archive, source_at
    from ops.cli.log_access import archive_at
    from streams.audit.proving import Prover
    from streams.cursor import id_order

    ms, number = id_order(wanted)
    before = f"{ms}-{number - 1}" if number else f"{ms - 1}-18446744073709551615"
    async with source_at(redis, data, channel.tenant, is_archive_only=is_archive_only) as source:
        await source.extent(channel)
        found = await source.page(channel, before, wanted)
        if not found or found[0].id.decode() != wanted:
            raise CommandFailed(f"{channel.wire} of tenant {channel.tenant} has no event {wanted}")
    async with archive_at(data) as archive:
        if archive is None:
            raise no_archive(data)
        proof = await Prover(archive, channel.tenant).event(channel, wanted, found[0].seq)
        return proof.to_json().decode()


async def _verify(
    redis: str, data: Path, tenant: str, places: list[Channel], keys: list[str], known: list[bytes], *,
    is_archive_only: bool,
) -> str:  # fmt: skip # its arguments in two groups
    """Print a report for each channel; returns the line that says that something is wrong, or ""."""
    from ops.cli.audit_access import evidence_at, keys_of, no_archive
    from ops.cli.log_access import stored_log_at
    from streams.audit.channel_check import verify_archive, verify_log

    bad: list[str] = []
    async with evidence_at(data, tenant, keys_of(keys, data), known, is_full=not places) as evidence:
        if is_archive_only:
            if evidence is None:
                raise no_archive(data)
            for place in places or _named(evidence):
                _tell(place, await verify_archive(place, evidence), bad)
        else:
            async with stored_log_at(redis, data) as log:
                for place in places or await _all(log, tenant, evidence):
                    _tell(place, await verify_log(log, place, evidence), bad)
    if not places and evidence is not None:
        bad += evidence.record.faults
    return "" if not bad else bad[0] if places else f"{len(bad)} of these are not intact; {bad[0]}"


def _tell(place: Channel, found: Audit, bad: list[str]) -> None:
    print(json.dumps(found.to_json()))
    if found.faults:
        bad.append(f"{place.wire} is not intact from seq {found.first_bad_seq}: {found.faults[0]}")


def _named(evidence: ArchiveEvidence) -> list[Channel]:
    """The channels that the log of heads names."""
    from streams.channel import channel_from_path

    return [channel_from_path(path) for path in sorted(evidence.record.heads)]


async def _all(log: StoredLog, tenant: str, evidence: ArchiveEvidence | None) -> list[Channel]:
    """The channels of the directory and of the log of heads."""
    from streams.records.listed_channels import listed_channels

    found = {one.channel async for one in listed_channels(log, tenant, "*")}
    found |= set(_named(evidence)) if evidence else set()
    if not found:
        raise CommandFailed(f"tenant {tenant} has no channels")
    return sorted(found)
