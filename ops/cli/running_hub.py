"""The note file that `hub dev` writes into its data folder, from which other commands find the running hub.

The hub holds a lock on the file as long as it runs. So the note of a process that has ended, however it ended, is ignored, even
if its process ID has been reused.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

NOTE: Final = "hub.json"
DEFAULT_URL: Final = "http://127.0.0.1:8000"
_PATIENCE_S: Final = 0.5
"""Time to retry the lock, which a command holds briefly while it reads the note."""
_LOOK_EVERY_S: Final = 0.01


@dataclass(frozen=True, slots=True)
class RunningHub:
    """A hub that runs on this machine.

    Attributes:
        redis_url: the Redis that it uses.
        made_secret: the secret of its tokens, if it made one for this run; otherwise "".
    """

    url: str
    redis_url: str
    pid: int
    made_secret: str = ""


@dataclass(frozen=True, slots=True)
class HubAddress:
    """An address, and a phrase that says where it came from."""

    url: str
    origin: str


class HubNote:
    """The note file of a hub, written once the hub is up and emptied when it ends."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, hub: RunningHub) -> None:
        """Write the hub's address and details."""
        os.truncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps(asdict(hub)).encode(), 0)


@contextlib.contextmanager
def kept_note(data: Path) -> Iterator[HubNote | None]:
    """Lock and yield the note for a hub about to run on this folder; None if another hub already holds it."""
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(data / NOTE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        if not _took_lock(descriptor, time.monotonic() + _PATIENCE_S):
            yield None
            return
        os.fchmod(descriptor, 0o600)
        try:
            yield HubNote(descriptor)
        finally:
            os.truncate(descriptor, 0)
    finally:
        os.close(descriptor)


def running_hub(data: Path) -> RunningHub | None:
    """The hub that runs on this folder; None if there is none, or if another account could have written its note.

    The ownership matters because commands send tokens to the address in the note.
    """
    try:
        descriptor = os.open(data / NOTE, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return None
    with open(descriptor, encoding="utf-8") as note:
        found = os.fstat(descriptor)
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077 or not _is_held(descriptor):
            return None
        try:
            return RunningHub(**json.load(note))
        except (ValueError, TypeError):
            return None  # the hub is starting, or has another version


def address_of(url: str, data: Path) -> HubAddress:
    """The address given by `--url` or HUB_URL, or the address of the hub running on this data folder, or the default."""
    if url:
        return HubAddress(url, "that of HUB_URL" if url == os.environ.get("HUB_URL") else "that of --url")
    here = running_hub(data)
    if here is not None:
        return HubAddress(here.url, f"that of the hub running on {data.absolute()}, process {here.pid}")
    return HubAddress(DEFAULT_URL, f"the default: no `hub dev` runs on {data.absolute()}; see --url and --data")


def _took_lock(descriptor: int, deadline: float) -> bool:
    """Try to take the lock until `deadline`, in seconds of `time.monotonic()`; False if another process still holds it then."""
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(_LOOK_EVERY_S)
        else:
            return True


def _is_held(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
