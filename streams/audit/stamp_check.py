"""The audit of a tenant's stamps by RFC 3161: each against its checkpoint, and the checkpoints' dates against the stamps'."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.x509 import Certificate

from streams.archive.heads import HeadLog
from streams.archive.notes import NoteRefused, read_checkpoint
from streams.archive.objects import ArchiveObjects
from streams.archive.stamps import Stamp, read_stamp
from streams.errors import TimestampRefused
from streams.times import rfc3339

CLOCK_SLACK_S: Final = 300
"""Seconds by which the clocks of the hub and of an authority may differ."""


@dataclass(slots=True)
class StampRecord:
    """A tenant's stamps, verified.

    Attributes:
        faults: what is wrong, as sentences.
        count: number of stamps that are there.
        number, newest: the newest of them that is good, and the number of its checkpoint.
    """

    faults: list[str] = field(default_factory=list)
    count: int = 0
    number: int = 0
    newest: Stamp | None = None

    def to_json(self) -> dict[str, Any]:
        """The facts as JSON."""
        if self.newest is None:
            return {"count": self.count}
        time = rfc3339(self.newest.time_s * 1000)
        return {"count": self.count, "checkpoint": self.number, "time": time, "authority": self.newest.authority}

    @property
    def stamped(self) -> str:
        """The newest stamp as a clause; "" if there is none."""
        if self.newest is None:
            return ""
        at = rfc3339(self.newest.time_s * 1000)
        return f"checkpoint {self.number:,} was stamped by {self.newest.authority} at {at}"

    @property
    def told(self) -> str:
        """The newest stamp in words."""
        return f"{self.count:,}; {self.stamped}" if self.newest else "none"


async def read_stamps(
    objects: ArchiveObjects, tenant: str, authorities: Sequence[Certificate], *, is_full: bool
) -> StampRecord:
    """Read a tenant's stamps and compare them with its checkpoints.

    Args:
        objects: the archive.
        tenant: the tenant.
        authorities: the certificates that a stamp must lead to.
        is_full: read all stamps, and the dates of all checkpoints; otherwise only the newest stamp.
    """
    found, log = StampRecord(), HeadLog(objects, tenant, "")
    stamped = await log.stamped()
    found.count = len(stamped)
    if not stamped:
        found.faults.append("no checkpoint has a stamp by RFC 3161, so nobody but the hub dates them")
    for number in stamped if is_full else stamped[-1:]:
        note, reply = await log.checkpoint(number), await log.stamp(number)
        try:
            if note is None or reply is None:
                raise TimestampRefused("the checkpoint is missing" if note is None else "the stamp is empty")
            stamp = read_stamp(reply, note, authorities)
            found.number, found.newest = number, stamp
            _compare_date(found, number, note, stamp)
        except (TimestampRefused, NoteRefused) as error:
            found.faults.append(f"the stamp of checkpoint {number} proves nothing: {error}")
    if is_full and found.newest is not None:
        await _compare_dates(found, log, set(stamped), authorities)
    return found


def _compare_date(found: StampRecord, number: int, note: bytes, stamp: Stamp) -> None:
    dated_s = read_checkpoint(note).time_s
    if dated_s > stamp.time_s + CLOCK_SLACK_S:
        told = (
            f"checkpoint {number} is dated {rfc3339(dated_s * 1000)}, but was stamped at {rfc3339(stamp.time_s * 1000)}"
        )
        found.faults.append(f"{told}: a clock was set forward")


async def _compare_dates(
    found: StampRecord, log: HeadLog, stamped: set[int], authorities: Sequence[Certificate]
) -> None:
    """Compare the date of each checkpoint with the newest stamp before it."""
    since_s, since = 0, 0
    for number in range(min(stamped), await log.checkpoint_count() + 1):
        note = await log.checkpoint(number)
        try:
            dated_s = read_checkpoint(note or b"").time_s
            if dated_s < since_s - CLOCK_SLACK_S:
                told = f"checkpoint {number} is dated {rfc3339(dated_s * 1000)}, after checkpoint {since} was stamped"
                found.faults.append(f"{told} at {rfc3339(since_s * 1000)}: a clock was set back")
            if number in stamped:
                since_s, since = read_stamp(await log.stamp(number) or b"", note or b"", authorities).time_s, number
        except (TimestampRefused, NoteRefused):  # named above, or by the check of the checkpoints
            continue
