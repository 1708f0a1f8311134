"""Cosign a hub's checkpoints, as another party that keeps what it has signed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ops.cli.failure import EXIT_USAGE, CommandFailed
from ops.cli.options import DEFAULT_DATA, Data, Tenant, new_app, run

app = new_app()


@app.command()
def witness(
    tenant: Tenant,
    key: Annotated[
        list[str], typer.Option(help="The hub's public key, as `hub audit key` prints it; several are allowed.")
    ],
    folder: Annotated[Path, typer.Option(help="The witness's own folder, which the hub cannot write.")],
    name: Annotated[str, typer.Option(help="The witness's name, for a key that is made now.")] = "witness",
    every: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.2)] = 60.0,
    is_once: Annotated[bool, typer.Option("--once", help="Look once, and exit.")] = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Cosign each new checkpoint if it continues the one before; exit with 1 at one that does not.

    It reads the archive of the bucket, or of the --data folder, and prints a line for each checkpoint that it cosigns.

    Example: hub witness --tenant acme --key "$(hub audit key)" --folder /var/lib/witness
    """
    run(_witness(tenant, key, folder, name, every, data, is_once=is_once))


async def _witness(
    tenant: str, keys: list[str], folder: Path, name: str, every_s: float, data: Path, *, is_once: bool
) -> None:
    import asyncio
    import time

    from ops.cli.log_access import archive_at
    from ops.witness import CosigningRefused, Witness, witness_signer
    from streams.archive.notes import NoteRefused, PublicKey
    from streams.errors import ArchiveUnavailable

    try:
        hub_keys, signer = (
            [PublicKey.parse(line) for text in keys for line in text.split()],
            witness_signer(folder, name),
        )
    except NoteRefused as error:
        raise CommandFailed(str(error), EXIT_USAGE) from error
    print(f"witness {signer.public}", file=sys.stderr)
    async with archive_at(data) as archive:
        if archive is None:
            raise CommandFailed(f"there is no archive in {data}; see --data and S3_BUCKET")
        one = Witness(archive, tenant, hub_keys, signer, folder)
        while True:
            try:
                found = await one.look(int(time.time()))
                if found is not None and found.is_new:
                    print(f"cosigned {found.checkpoint.origin} with {found.checkpoint.size} heads", flush=True)
            except CosigningRefused as refused:
                raise CommandFailed(f"refused to cosign the log of {tenant}: {refused}") from refused
            except ArchiveUnavailable as error:
                if is_once:
                    raise
                print(f"{error}; trying again", file=sys.stderr, flush=True)
            if is_once:
                return
            await asyncio.sleep(every_s)
