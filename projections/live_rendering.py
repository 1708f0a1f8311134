"""The live part of a channel's state as it is shown at a time (EVENTS 11). Pure."""

from __future__ import annotations

from operator import itemgetter

from projections.live import UPLOAD_ORDER, Live, Passing
from projections.presence import LISTED_MAX, render_presence
from projections.uploads import Uploads
from streams.channel import Kind
from streams.json_bytes import Json, JsonObject


def render_live(state: Live, now_ms: int, uploads: Uploads | None = None) -> JsonObject:
    """The live part of `ChannelState` at this time.

    Args:
        state: the live lane, folded.
        now_ms: milliseconds since 1970, by the clock that mints event IDs.
        uploads: the channel's open uploads as its events have them; progress is joined to them. None shows progress alone.
    """
    shown = render_presence(state.people)
    shown["uploads"] = _uploads(state, now_ms, uploads)
    if state.kind in {Kind.CONVERSATION, Kind.AGENT}:
        shown["open_messages"] = state.open.render()
    if state.kind is Kind.CONVERSATION:
        shown["typing"] = [held.shown["user"] for held in state.typing.values() if not held.is_over(now_ms)]
        shown["read_markers"] = {**state.read_markers}
    if state.kind is Kind.TEAM:
        members = [held for _, held in sorted(state.members.items(), key=itemgetter(0))]
        shown["members"] = [_member_now(held, now_ms) for held in members[:LISTED_MAX]]
    if state.kind is Kind.DOCUMENT:
        shown["cursors"] = [held.shown for held in state.cursors.values() if not held.is_over(now_ms)]
    return shown


def _member_now(held: Passing, now_ms: int) -> JsonObject:
    """A status that is over is `online` again, without its message."""
    if not held.is_over(now_ms):
        return held.shown
    return {"user": held.shown["user"], "status": "online", "devices": held.shown["devices"]}


def _uploads(state: Live, now_ms: int, uploads: Uploads | None) -> list[Json]:
    """Open uploads with their progress. Of the two lanes' states the later in an upload's life holds."""
    progress = {name: held.shown for name, held in state.uploads.items() if not held.is_over(now_ms)}
    if uploads is None:
        return [*progress.values()]
    shown: list[Json] = []
    for upload in uploads.open.values():
        live = progress.get(upload.upload_id, {})
        sent = upload.total if upload.state == "verifying" else live.get("sent", 0)
        stage = max(upload.state, str(live.get("state", upload.state)), key=UPLOAD_ORDER.index)
        shown.append({
            "upload_id": upload.upload_id, "user": upload.user, "filename": upload.filename, "sent": sent,
            "total": upload.total, "state": stage,
        })  # fmt: skip
    return shown
