"""Erase a person: destroy the key of what the person wrote, and record it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ops.cli.failure import EXIT_USAGE, CommandFailed
from ops.cli.options import DEFAULT_DATA, Data, Redis, agree, new_app, operator_name, run

if TYPE_CHECKING:
    from ops.cli.erasure import Reach
    from streams.redis.log import Log
    from streams.sealing.keys import KeyFolder

app = new_app()
_NAMED_MAX: Final = 5


@app.command()
def erase(
    tenant: Annotated[str, typer.Option("--tenant", help="The user's tenant.")],
    user: Annotated[str, typer.Argument(help="The user whose words are to be erased.")] = "",
    recorded: Annotated[
        bool,
        typer.Option(
            "--recorded", help="Instead of a user: destroy again every key that was ever erased, after a restore."
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be erased, and change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    by: Annotated[
        str, typer.Option("--by", help="The operator, for the record.  [default: this account]", show_default=False)
    ] = "",
    redis: Redis = "",
    data: Data = DEFAULT_DATA,
) -> None:
    """Print what is erased and what is not, ask, destroy the user's key, and record it in system:erasures.

    Example: hub erase maria --tenant acme --dry-run
    """
    if recorded == bool(user):
        raise CommandFailed("name a user, or use --recorded", EXIT_USAGE)
    who = operator_name(by)
    if recorded:
        run(_erase_recorded(tenant, redis, data))
        return
    run(_erase(user, tenant, redis, data, by=who, is_dry=dry_run, is_agreed=yes))


async def _erase(user: str, tenant: str, redis: str, data: Path, *, by: str, is_dry: bool, is_agreed: bool) -> None:
    import asyncio

    from ops.cli.erasure import erase as destroy
    from ops.cli.erasure import look_for
    from ops.cli.log_access import log_at, own_writer, stored_log_at

    keys = _keys()
    held = await asyncio.to_thread(keys.all_of, tenant, user)
    async with stored_log_at(redis, data) as log:
        reach = await look_for(log, tenant, user, frozenset(held))
    if not held:
        told = f"nothing of {user} in tenant {tenant} is sealed: there is no key of that name, and there never was one"
        raise CommandFailed(f"{told}; {_left(reach)}")
    _print(user, reach, is_over=not any(held.values()))
    if is_dry:
        print("nothing was changed: this was a dry run")
        return
    agree(f"Erase {user} of tenant {tenant}? This cannot be undone", is_sure=is_agreed)
    own = own_writer("hub erase", tenant, is_alone=True)
    async with log_at(redis, data, may_begin=False, writer=own) as log:
        ids, is_news = await destroy(log, keys, tenant, user, by, reach)
        await _archive_record(log, tenant, data)
    print(f"destroyed: {'the key' if len(ids) == 1 else 'the keys'} {', '.join(ids)}")
    print("recorded in system:erasures" if is_news else "it was recorded before, in system:erasures")
    print("every node and worker forgets the key within 5 seconds; one that cannot reach the store, within a minute")


async def _archive_record(log: Log, tenant: str, data: Path) -> None:
    """Archive the record at once where this command has the settings of the archive; else a worker does, as the retention says."""
    import os
    from dataclasses import replace

    from hub.config import Settings
    from hub.storage.choice import audit_key_path
    from ops.cli.erasure import erasures_of
    from ops.cli.keeping import keeper_of, own_archive

    settings = replace(Settings.from_env(os.environ), data_dir=str(data))
    if settings.retention is None or not audit_key_path(settings).exists():
        return
    async with own_archive(data, is_needed=False) as kept:
        await keeper_of(log, kept).archive_whole(erasures_of(tenant), trims=False)


async def _erase_recorded(tenant: str, redis: str, data: Path) -> None:
    from ops.cli.audit_access import evidence_at, keys_of
    from ops.cli.erasure import erase_recorded
    from ops.cli.log_access import log_at, own_writer

    keys = _keys()
    own = own_writer("hub erase --recorded", tenant, is_alone=True)
    async with (
        evidence_at(data, tenant, keys_of([], data), [], is_full=False) as evidence,
        log_at(redis, data, may_begin=False, writer=own) as log,
    ):
        found = await erase_recorded(log, keys, tenant, evidence)
    print(f"{found.records} erasures are recorded; {len(found.keys)} of their keys were there, and are destroyed again")
    if found.unread or found.faults:
        why = found.faults[0] if found.faults else "they are neither in Redis nor in the archive"
        told = f"erasures on record that cannot be read: {found.unread}; {why}"
        raise CommandFailed(f"{told}. Erase these people again by name, with `hub erase USER`")


def _keys() -> KeyFolder:
    import os

    from hub.config import Settings
    from streams.sealing.keys import KeyFolder

    folder = Settings.from_env(os.environ).subject_keys
    if folder is None:
        raise CommandFailed("set HUB_SUBJECT_KEYS to the folder of people's keys, as the nodes have it", EXIT_USAGE)
    if not (Path(folder) / "store").is_file():
        raise CommandFailed(f"HUB_SUBJECT_KEYS: {folder} is no store of keys; is it mounted?", EXIT_USAGE)
    return KeyFolder(Path(folder))


def _left(reach: Reach) -> str:
    return f"{reach.plain} of the user's events are stored in plain text"


def _print(user: str, reach: Reach, *, is_over: bool) -> None:
    done = "were erased before" if is_over else "are sealed by the user's key and will be erased"
    print(f"{reach.sealed} events in {len(reach.sealed_in)} channels {done}: they keep id, seq, time, type and actor")
    print("not reached:")
    named = sorted(reach.plain_in)
    where = f", in {', '.join(named[:_NAMED_MAX])}{' …' if named[_NAMED_MAX:] else ''}" if named else ""
    print(f"  {reach.plain} events of {user} that were stored in plain text{where}")
    print(
        f"  {reach.settings} changes of settings by {user}: titles, instructions and metadata belong to their channels"
    )
    print(f"  {reach.uploads} uploads of {user}: their names, and their bytes in the store")
    print(f"  the name {user} as an actor, in presence, read positions and lists of members")
    print("  quotations: in answers and checkpoints of agents, and in what other people wrote")
    print("  status texts of the last 15 minutes in the live lane, and whatever clients, logs and other systems keep")
    print(
        "  backups of the store of keys: they hold the key until they expire; an earlier one must not be restored as it is"
    )
