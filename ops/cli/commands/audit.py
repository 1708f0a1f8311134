"""Check that a channel's events are complete, unrepeated, undamaged, in order, and the ones that were recorded."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from ops.cli.failure import EXIT_USAGE, CommandFailed
from ops.cli.options import (
    DEFAULT_DATA,
    ChannelName,
    Data,
    From,
    Redis,
    Tenant,
    To,
    Types,
    channel_of,
    event_id,
    new_app,
    one_or_all,
    run,
)
from ops.cli.output import is_terminal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.x509 import Certificate

    from ops.cli.selection import Selection
    from streams.audit.channel_check import Audit
    from streams.audit.sources import AuditedChannel
    from streams.channel import Channel

app = new_app()
ArchiveOnly: TypeAlias = Annotated[
    bool, typer.Option("--archive-only", help="Read the archive alone, without any Redis.")
]

Keys: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--key", help="A public key that checkpoints may be signed with; several are allowed.  [default: this hub's]"
    ),
]
Known: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option(
        "--known", help="A signed checkpoint that was kept elsewhere.", exists=True, dir_okay=False, readable=True
    ),
]


TsaCa: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--tsa-ca",
        help="Certificates (PEM) of the time-stamping authority: its stamps on checkpoints are verified, too.",
        exists=True,
        dir_okay=False,
        readable=True,
    ),
]


@app.callback()
def audit() -> None:
    """Check that a channel's events are complete, unrepeated, undamaged, in order, and the ones that were recorded.

    Example: hub audit verify conversation:42 --tenant acme
    """


@app.command()
def verify(
    tenant: Tenant,
    channel: ChannelName = "",
    is_all: Annotated[
        bool, typer.Option("--all", help="All channels of the tenant, and every checkpoint; a line for each channel.")
    ] = False,
    key: Keys = None,
    known: Known = None,
    tsa_ca: TsaCa = None,
    is_archive_only: ArchiveOnly = False,
    redis: Redis = "",
    data: Data = DEFAULT_DATA,
) -> None:
    """Print the result as a JSON object; exit with 1 if an event is missing, repeated, out of order, damaged or changed.

    With an archive each event is compared with its leaf in a tree whose root is under a signed checkpoint. Without one,
    an ID changed without changing the order is not detected. Nothing is written.

    Example: hub audit verify conversation:42 --tenant acme
    """
    place = one_or_all(tenant, channel, is_all=is_all)
    kept = [path.read_bytes() for path in known or ()]
    bad = run(_verify(redis, data, tenant, place, key or [], kept, tsa_ca, is_archive_only=is_archive_only))
    if bad:
        raise CommandFailed(bad)


@app.command(name="key")
def key_(
    is_rotating: Annotated[
        bool, typer.Option("--rotate", help="Make a new key; until --retire the former one signs too.")
    ] = False,
    is_retiring: Annotated[
        bool, typer.Option("--retire", help="End the signing by former keys; their public keys stay known.")
    ] = False,
    new: Annotated[Path | None, typer.Option(help="Make a key of one's own in this file, to sign reports.")] = None,
    name: Annotated[str, typer.Option(help="The name of the key that --new makes.")] = "auditor",
    data: Data = DEFAULT_DATA,
) -> None:
    """Print the public keys that this hub's checkpoints are signed with, the present one first, for auditors and witnesses.

    After --rotate and --retire the workers must be started again.

    Example: hub audit key
    """
    from ops.cli.audit_access import changed_keys, keys_of, made_key

    if (is_rotating + is_retiring + (new is not None)) > 1:
        raise CommandFailed("use one of --rotate, --retire and --new", EXIT_USAGE)
    if new is not None:
        found = made_key(new, name)
    else:
        found = changed_keys(data, is_rotating=is_rotating) if is_rotating or is_retiring else keys_of([], data)
    if not found:
        raise CommandFailed("there is no key yet: a worker makes it when HUB_RETENTION is set")
    for one in found:
        print(one)


@app.command()
def prove(
    channel: ChannelName,
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
            help="A proof, as `hub audit prove`, `hub audit consistency` or HTTP gives it, a checkpoint, or a report.",
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
    tsa_ca: Annotated[
        Path | None,
        typer.Option(
            "--tsa-ca",
            help="For a checkpoint: certificates (PEM) of the time-stamping authority whose stamp is beside it, as FILE.tsr.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
) -> None:
    """Check a proof, a checkpoint or a report with nothing but public keys and what it is about; exit with 1 if it proves nothing.

    Example: hub audit check proof.json --event event.jsonl --key "$(cat hub.key.pub)"
    """
    from ops.cli.audit_check import checked

    print(checked(proof, key, event, known, tsa_ca))


@app.command()
def checkpoints(
    tenant: Tenant,
    limit: Annotated[int, typer.Option(help="Maximum number, newest first.", min=1, max=100_000)] = 20,
    out: Annotated[
        Path | None,
        typer.Option(help="Also write the newest to this file, to be kept elsewhere; its stamp beside it, with .tsr."),
    ] = None,
    is_stamped: Annotated[
        bool, typer.Option("--stamped", help="Only those that a time-stamping authority has stamped.")
    ] = False,
    tsa_ca: TsaCa = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Print the newest checkpoints of a tenant, one JSON object per line; `stamp` with --tsa-ca has time and authority.

    Example: hub audit checkpoints --tenant acme --limit 1 --out /mnt/elsewhere/acme.checkpoint
    """
    from ops.cli.audit_access import authorities_in
    from ops.cli.audit_check import stamp_beside

    found, authorities = run(_checkpoints(data, tenant, limit, is_stamped=is_stamped)), authorities_in(tsa_ca)
    if not found:
        raise CommandFailed(f"tenant {tenant} has no checkpoint" + (" with a stamp" if is_stamped else ""))
    if out is not None:
        out.write_bytes(found[0][1])
        stamp_beside(out).unlink(missing_ok=True)
        if found[0][2] is not None:
            stamp_beside(out).write_bytes(found[0][2])
    for number, note, reply in found:
        print(json.dumps(_facts_of(number, note) | _facts_of_stamp(number, note, reply, authorities)))


def _facts_of_stamp(
    number: int, note: bytes, reply: bytes | None, authorities: Sequence[Certificate]
) -> dict[str, object]:
    if reply is None or not authorities:
        return {} if reply is None else {"stamp": {"bytes": len(reply)}}
    from streams.archive.stamps import read_stamp
    from streams.errors import TimestampRefused
    from streams.times import rfc3339

    try:
        stamp = read_stamp(reply, note, authorities)
    except TimestampRefused as error:
        raise CommandFailed(f"the stamp of checkpoint {number} proves nothing: {error}") from error
    return {"stamp": {"time": rfc3339(stamp.time_s * 1000), "authority": stamp.authority}}


def _facts_of(number: int, note: bytes) -> dict[str, object]:
    from streams.archive.notes import read_checkpoint, signatures_of

    checkpoint = read_checkpoint(note)
    facts = {"number": number, "origin": checkpoint.origin, "heads": checkpoint.size, "root": checkpoint.root.hex()}
    return facts | {"time": checkpoint.time_s or None, "signatures": signatures_of(note)}


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
    ended = f"  deleted by {one.deletion.by}" if one.deletion else ""
    return f"{told}  {active}{ended}" + (f"  {one.fault}" if one.fault else "")


@app.command()
def export(
    tenant: Tenant,
    out: Annotated[Path, typer.Option("--out", "-o", help="The file; it has this name only once it is whole.")],
    channel: ChannelName = "",
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

    What is missing is named on stderr, and the file then has all the others. So is a channel that was deleted: if it is CHANNEL,
    the command exits with 1; with --archive-only the file has what the archive keeps of it. Parquet needs pyarrow
    (pip install 'realtime-hub[parquet]').

    Example: hub audit export conversation:42 --tenant acme --format csv -o history.csv
    """
    from ops.cli.selection import selection_of

    place = one_or_all(tenant, channel, is_all=is_all)
    wanted = selection_of("0", from_, to, types)
    run(_export(redis, data, tenant, place, wanted, format, out, is_archive_only=is_archive_only))


@app.command()
def report(
    tenant: Tenant,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The page; its signature is beside it, with .sig at the end.")
    ],
    channel: ChannelName = "",
    is_all: Annotated[bool, typer.Option("--all", help="All channels of the tenant, and every checkpoint.")] = False,
    period: Annotated[
        str, typer.Option(help="`all`, a year, a month, a day, or FIRST..LAST; in UTC. It bounds what is counted.")
    ] = "all",
    signer: Annotated[
        Path | None, typer.Option(help="The file of the private key that signs the page.  [default: the hub's]")
    ] = None,
    key: Keys = None,
    known: Known = None,
    tsa_ca: TsaCa = None,
    is_archive_only: ArchiveOnly = False,
    redis: Redis = "",
    data: Data = DEFAULT_DATA,
) -> None:
    """Write a page to be filed: scope, period, counts, checkpoints and result of the verification, with a signature beside it.

    The whole history is verified, whatever the period. Exits with 1 if something is wrong; the page then says it.

    Example: hub audit report --all --tenant acme --period 2026-11 -o report.html
    """
    place = one_or_all(tenant, channel, is_all=is_all)
    kept = [path.read_bytes() for path in known or ()]
    told = run(
        _report(
            redis, data, tenant, place, period, signer, key or [], kept, tsa_ca, out, is_archive_only=is_archive_only
        )
    )
    print(told)


async def _report(
    redis: str, data: Path, tenant: str, place: Channel | None, period: str, signer: Path | None, keys: list[str],
    known: list[bytes], tsa_ca: Path | None, out: Path, *, is_archive_only: bool,
) -> str:  # fmt: skip # its arguments in two groups
    import time
    from importlib.metadata import version

    from ops.cli.audit_access import keys_of, signer_at
    from ops.cli.audit_export import refuse_folder, whole_file
    from ops.cli.audit_report import AuditReport, period_of, signature_of
    from ops.cli.audit_survey import report_channels, report_checkpoints, survey_at

    refuse_folder(out)
    asked, signing, known_keys = period_of(period), signer_at(signer, data), keys_of(keys, data)
    async with survey_at(
        redis, data, tenant, known_keys, known, is_full=place is None, is_archive_only=is_archive_only, tsa_ca=tsa_ca
    ) as survey:
        channels = [place] if place else await survey.channels()
        found = AuditReport(
            tenant=tenant,
            scope=place.wire if place else f"all channels of {tenant}",
            source=await survey.told_source(),
            period=asked,
            channels=await report_channels(survey, channels, asked),
            checkpoints=await report_checkpoints(survey, asked, known, known_keys),
            keys=known_keys,
            log_faults=survey.log_faults if place is None else (),
            tool=f"realtime-hub {version('realtime-hub')}",
            made_ms=round(time.time() * 1000),
            unread_deletions=await survey.deletions.unread_count() if is_archive_only else 0,
        )
    page = found.to_html().encode()
    with whole_file(out.with_name(f"{out.name}.sig")) as file:
        file.write(signature_of(page, out.name, signing))
    with whole_file(out) as file:
        file.write(page)
    if found.fault_count:
        raise CommandFailed(f"{found.result} The report is {out}.")
    return f"{found.result} The report is {out}, signed by {signing.public.name}."


async def _export(
    redis: str, data: Path, tenant: str, place: Channel | None, wanted: Selection, form: str, out: Path, *,
    is_archive_only: bool,
) -> None:  # fmt: skip # its arguments in two groups
    from ops.cli.audit_access import source_at
    from ops.cli.audit_export import ExportFormat
    from ops.cli.audit_export import export as export_events

    if form not in set(ExportFormat):
        raise CommandFailed(f"--format must be one of {', '.join(ExportFormat)}", EXIT_USAGE)
    async with source_at(redis, data, tenant, is_archive_only=is_archive_only, opens=True) as source:
        channels = [place] if place else [one.channel async for one in source.channels(tenant)]
        if not channels:
            raise CommandFailed(f"tenant {tenant} has no channels")
        count, holes = await export_events(source, channels, wanted, ExportFormat(form), out)
    told = {"events": count, "channels": len(channels), "file": str(out), "whole": holes.is_whole}
    print(json.dumps(told | ({"deleted": len(holes.deleted)} if holes.deleted else {})))
    if place and holes.deleted:
        raise CommandFailed(holes.deleted[0])
    if holes.told:
        raise CommandFailed(f"this is not all: {holes.told[0]}")


async def _checkpoints(
    data: Path, tenant: str, limit: int, *, is_stamped: bool
) -> list[tuple[int, bytes, bytes | None]]:
    """The newest checkpoints, each with its number and its stamp."""
    from ops.cli.log_access import archive_at
    from streams.archive.heads import HeadLog

    async with archive_at(data) as archive:
        if archive is None:
            return []
        log = HeadLog(archive, tenant, "")
        numbers = await log.stamped() if is_stamped else range(1, await log.checkpoint_count() + 1)
        newest = reversed(numbers[-limit:])
        return [(at, note, await log.stamp(at)) for at in newest if (note := await log.checkpoint(at)) is not None]


async def _prove(redis: str, data: Path, channel: Channel, wanted: str, *, is_archive_only: bool) -> str:
    from ops.cli.audit_access import no_archive, source_at
    from ops.cli.log_access import archive_at
    from streams.audit.proving import Prover
    from streams.cursor import id_order

    ms, number = id_order(wanted)
    before = f"{ms}-{number - 1}" if number else f"{ms - 1}-18446744073709551615"
    async with source_at(redis, data, channel.tenant, is_archive_only=is_archive_only) as source:
        extent = await source.extent(channel)
        found = await source.page(channel, before, wanted)
        if not found and extent.is_ended and extent.deletion is not None:
            told = "`--archive-only` proves the events that the archive keeps"
            raise CommandFailed(f"{channel.wire} was {extent.deletion.told}; {told}")
        if not found or found[0].id.decode() != wanted:
            raise CommandFailed(f"{channel.wire} of tenant {channel.tenant} has no event {wanted}")
    async with archive_at(data) as archive:
        if archive is None:
            raise no_archive(data)
        proof = await Prover(archive, channel.tenant).event(channel, found[0])
        return proof.to_json().decode()


async def _verify(
    redis: str, data: Path, tenant: str, place: Channel | None, keys: list[str], known: list[bytes], tsa_ca: Path | None,
    *, is_archive_only: bool,
) -> str:  # fmt: skip # its arguments in two groups
    """Print a report for each channel; returns the line that says that something is wrong, or ""."""
    from ops.cli.audit_access import keys_of
    from ops.cli.audit_survey import survey_at

    bad: list[str] = []
    async with survey_at(
        redis, data, tenant, keys_of(keys, data), known, is_full=place is None, is_archive_only=is_archive_only,
        tsa_ca=tsa_ca,
    ) as survey:  # fmt: skip # its arguments in two groups
        for one in [place] if place else await survey.channels():
            _tell(one, await survey.verify(one), bad)
        if place is None:
            bad += survey.log_faults
    return "" if not bad else bad[0] if place else f"{len(bad)} of these are not intact; {bad[0]}"


def _tell(place: Channel, found: Audit, bad: list[str]) -> None:
    print(json.dumps(found.to_json()))
    for told in found.unknown:
        print(f"{place.wire}: {told}", file=sys.stderr)
    if found.faults:
        bad.append(f"{place.wire} is not intact from seq {found.first_bad_seq}: {found.faults[0]}")
