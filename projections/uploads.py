"""Uploads under way, by what their events say: who uploads what, and how far its life has come. Pure.

Bytes sent are live and not here; `projections.live` joins the two. An upload that is ready or failed is history: the file
is in the log as `file.ready`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Final

from projections.fields import actor_id, number, text
from projections.file_ids import file_id_of
from projections.projection import Dumped, DurableProjection, Home
from projections.recorded import Recorded
from streams.channel import Channel
from streams.json_bytes import Json, JsonObject

UPLOADS_MAX: Final = 1_000
"""Open uploads held a channel. A person may have ten; the oldest beyond this has long been reaped."""


@dataclass(slots=True)
class Upload:
    """An upload that is not ready and has not failed; `total` in bytes."""

    upload_id: str
    user: str
    filename: str
    total: int
    state: str


@dataclass(slots=True)
class Uploads:
    """Open uploads by their ID. `channel` is None where only the kind is known, and then there are none."""

    channel: Channel | None
    open: dict[str, Upload] = field(default_factory=dict)


def _request(state: Uploads, event: Recorded) -> None:
    user, filename, total = actor_id(event), text(event, "filename"), number(event, "size")
    if state.channel is None:
        return
    upload_id = file_id_of(state.channel, event.id)
    state.open[upload_id] = Upload(upload_id, user, filename, total, "requested")
    if len(state.open) > UPLOADS_MAX:
        del state.open[next(iter(state.open))]


def _claimed(state: Uploads, event: Recorded) -> None:
    upload = state.open.get(text(event, "upload_id"))
    if upload is not None:
        upload.state = "verifying"


def _failed(state: Uploads, event: Recorded) -> None:
    state.open.pop(text(event, "upload_id"), None)


def _ready(state: Uploads, event: Recorded) -> None:
    state.open.pop(text(event, "file_id"), None)


def _initial(home: Home) -> Uploads:
    return Uploads(home if isinstance(home, Channel) else None)


def _render(_state: Uploads) -> JsonObject:
    """Nothing: `uploads` belongs to the live part of state."""
    return {}


def _dump(state: Uploads) -> Json:
    return [asdict(upload) for upload in state.open.values()]


def _load(home: Home, value: Dumped) -> Uploads:
    return Uploads(_initial(home).channel, {upload["upload_id"]: Upload(**upload) for upload in value})


UPLOADS: Final = DurableProjection(
    name="uploads",
    version=1,
    initial=_initial,
    handlers={
        "file.upload.request": _request, "file.upload.complete": _claimed, "file.upload.cancel": _failed,
        "file.upload.failed": _failed, "file.ready": _ready,
    },
    render=_render,
    dump=_dump,
    load=_load,
)  # fmt: skip
"""The uploads that the live part of every channel's state begins with."""
