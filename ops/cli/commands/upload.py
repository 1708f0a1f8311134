"""Upload a file to a channel."""

from __future__ import annotations

from base64 import b64decode
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from ops.cli.options import (
    DEFAULT_DATA,
    DEFAULT_TENANT,
    DEFAULT_USER,
    ChannelName,
    Data,
    Tenant,
    Token,
    Url,
    User,
    channel_of,
    new_app,
    run,
)
from ops.cli.output import ProgressBar

if TYPE_CHECKING:
    from ops.cli.hub_access import Access
app = new_app()


class UploadChoice(StrEnum):
    """The ways to send a file; see docs/events.md#file."""

    AUTO = "auto"
    SINGLE = "single"
    MULTIPART = "multipart"
    SOCKET = "socket"


@app.command()
def upload(
    channel: ChannelName,
    file: Annotated[Path, typer.Argument(help="The file.", exists=True, dir_okay=False, readable=True)],
    strategy: Annotated[UploadChoice, typer.Option(help="The way to send the file.")] = UploadChoice.AUTO,
    resume: Annotated[
        str | None,
        typer.Option(help="A key of your choice; run the command again with the same key to continue the upload."),
    ] = None,
    url: Url = "",
    data: Data = DEFAULT_DATA,
    token: Token = "",
    user: User = DEFAULT_USER,
    tenant: Tenant = DEFAULT_TENANT,
) -> None:
    """Upload a file, and print its ID and SHA-256, in hex as `sha256sum` prints it, once the hub has verified it.

    Example: hub upload conversation:42 report.pdf
    """
    from ops.cli.hub_access import access_to

    place = channel_of(tenant, channel).wire
    with ProgressBar(file.name, file.stat().st_size) as progress:
        run(_upload(access_to(url, data, token, user, tenant), place, UploadOrder(file, strategy, resume), progress))


class UploadOrder(NamedTuple):
    """The file to upload, and the options."""

    file: Path
    strategy: str
    resume_key: str | None


async def _upload(access: Access, channel: str, wish: UploadOrder, progress: ProgressBar) -> None:
    async with access.connected() as hub:
        stored = await hub.upload(
            channel,
            wish.file,
            strategy=wish.strategy,
            resume_key=wish.resume_key,
            on_progress=lambda sent, _total: progress.show(sent),
        )
    progress.finish(
        {
            "file_id": stored.file_id,
            "filename": stored.filename,
            "size": stored.size,
            "sha256": b64decode(stored.sha256).hex(),
        }
    )
