"""Whether somebody may go on with an upload, and what it is told if not (EVENTS 8). Pure."""

from __future__ import annotations

from hub.errors import HubError, Problem
from streams.records.upload_record import Upload
from streams.records.upload_states import OPEN, FailReason, UploadState


def own(upload: Upload | None, user: str) -> Upload:
    """The upload, if it is this user's.

    Raises:
        HubError: 4018 there is none in this channel, 4003 it is somebody else's.
    """
    if upload is None:
        raise HubError(4018, "there is no such upload in this channel")
    if upload.user != user:
        raise HubError(4003, "only who began an upload may go on with it")
    return upload


def not_expired(upload: Upload, now: float) -> Upload:
    """The upload, if its time is not over. `now` is in Unix seconds.

    Raises:
        HubError: 4022.
    """
    is_past = upload.state in OPEN and now * 1000 > upload.expires_ms
    if is_past or upload.reason is FailReason.EXPIRED:
        raise HubError(4022, "the upload's time is over; ask for another one")
    return upload


def taking(upload: Upload, now: float) -> Upload:
    """The upload, if bytes are still taken.

    Raises:
        HubError: 4022 its time is over, 4021 with its state.
    """
    not_expired(upload, now)
    if upload.state not in OPEN:
        raise wrong_state(upload.state)
    return upload


def wrong_state(state: UploadState | str) -> HubError:
    """4021 with the present state."""
    shown = UploadState(state).shown
    return HubError(4021, f"the upload is {shown}", details=(Problem("state", f"is {shown}"),))
