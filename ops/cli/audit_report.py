"""The report that an auditor files: one HTML page with scope, counts, checkpoints and the result, and its detached signature.

The page loads nothing and prints well. The signature is a signed note (C2SP) over the page's SHA-256, in `<name>.sig`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from html import escape
from typing import Any, Final

from ops.cli.failure import EXIT_USAGE, CommandFailed
from ops.cli.options import milliseconds
from streams.archive.notes import NoteRefused, Opened, PublicKey, Signer, open_note
from streams.audit.channel_check import Audit
from streams.channel import Channel
from streams.times import rfc3339

_FORM: Final = "realtime-hub/report/v1"
_CODE_FROM: Final = 60
"""Characters from which on a text is a key or a digest, in small type."""
_DAY: Final = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?")
_WHOLE: Final = "Everything that was recorded is there, in order and unchanged."
_READ: Final = "All that was read is in order and unchanged."
_NAMED_MAX: Final = 3
"""Channels that the result names; the table has them all."""
_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { font-size: 1.15rem; margin-top: 2rem; break-after: avoid; }
table { border-collapse: collapse; width: 100%; } tr { break-inside: avoid; }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid #ccc; }
th:first-child, td:first-child { min-width: 9rem; overflow-wrap: anywhere; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; } td.number { white-space: nowrap; }
.result { font-size: 1.15rem; border-left: .4rem solid #1a7f37; padding: .6rem 1rem; background: #f1f8f3; }
.result.bad { border-color: #b42318; background: #fdf2f1; }
code { font: .85em ui-monospace, monospace; overflow-wrap: anywhere; }
@media print { body { max-width: none; margin: 0; padding: 0; font-size: 10.5pt; } thead { display: table-header-group; }
.result, .result.bad { background: none; } @page { margin: 18mm; } }
"""


@dataclass(frozen=True, slots=True)
class Period:
    """A period, its beginning included and its end not; None is no bound. In milliseconds since 1970."""

    text: str
    begin_ms: int | None = None
    end_ms: int | None = None

    @property
    def after(self) -> str:
        """The cursor before its first event."""
        return f"{self.begin_ms - 1}-18446744073709551615" if self.begin_ms else "0"

    @property
    def upto(self) -> str:
        """The end of a range of event IDs."""
        return "+" if self.end_ms is None else str(self.end_ms - 1)


def period_of(text: str) -> Period:
    """Parse `all`, a year, a month, a day, or `FIRST..LAST` of days or times (RFC 3339, UTC without an offset).

    Raises:
        CommandFailed: it is none of these.
    """
    if text == "all":
        return Period("the whole history")
    first, separator, last = text.partition("..")
    begin_ms, single_ms = _bounds(first)
    end_ms = _bounds(last)[1] if separator else single_ms
    if end_ms <= begin_ms:
        raise CommandFailed("--period: it ends before it begins", EXIT_USAGE)
    try:
        return Period(f"{rfc3339(begin_ms)} to {rfc3339(end_ms)}", begin_ms, end_ms)
    except (OverflowError, ValueError) as refused:
        raise CommandFailed(f"--period: {text} ends after the year 9999", EXIT_USAGE) from refused


def _bounds(text: str) -> tuple[int, int]:
    """The beginning of a year, month or day, and the beginning of the next; a time is its own millisecond."""
    found = _DAY.fullmatch(text)
    if found is None:
        try:
            at_ms = milliseconds(text, "--period")
        except CommandFailed as refused:
            told = "--period: write all, a year, a month, a day such as 2026-11-23, a time, or FIRST..LAST"
            raise CommandFailed(told, EXIT_USAGE) from refused
        return at_ms, at_ms + 1
    year, month, day = int(found[1]), int(found[2] or 1), int(found[3] or 1)
    try:
        begin = datetime(year, month, day, tzinfo=UTC)
        if found[3]:
            return _ms(begin), _ms(begin) + 86_400_000
        months = year * 12 + (month if found[2] else 12)
        following = datetime(months // 12, months % 12 + 1, 1, tzinfo=UTC)
    except ValueError as refused:
        raise CommandFailed(f"--period: there is no {text}", EXIT_USAGE) from refused
    return _ms(begin), _ms(following)


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


@dataclass(slots=True)
class ChannelReport:
    """A channel in the report: its audit, and what it has in the period."""

    channel: Channel
    audit: Audit
    types: Counter[str] = field(default_factory=Counter)
    first: str = ""
    last: str = ""


@dataclass(frozen=True, slots=True)
class CheckpointReport:
    """The checkpoints of the tenant's log.

    Attributes:
        count: number of all checkpoints.
        in_period: the numbers of the first and the last in the period; None if there is none, or no archive.
        newest: the newest.
        known: those that were kept elsewhere, as far as a known key has signed them.
        stamps: words about the stamps of a time-stamping authority; "" if they were not looked at.
    """

    count: int = 0
    in_period: tuple[int, int] | None = None
    newest: Opened | None = None
    known: tuple[Opened, ...] = ()
    stamps: str = ""


@dataclass(frozen=True, slots=True)
class AuditReport:
    """All that the page says.

    Attributes:
        unread_deletions: number of records of deletions that are not in the archive, where that is read alone.
    """

    tenant: str
    scope: str
    source: str
    period: Period
    channels: Sequence[ChannelReport]
    checkpoints: CheckpointReport
    keys: Sequence[PublicKey]
    log_faults: Sequence[str]
    tool: str
    made_ms: int
    unread_deletions: int = 0

    @property
    def fault_count(self) -> int:
        """Number of faults that were found, in channels and in the log of heads."""
        return len(self.log_faults) + sum(len(one.audit.faults) for one in self.channels)

    @property
    def result(self) -> str:
        """The result in words."""
        if self.fault_count:
            bad = [one.channel.wire for one in self.channels if one.audit.faults]
            several = "1 fault was" if self.fault_count == 1 else f"{self.fault_count} faults were"
            return f"This history is not intact: {several} found, in {len(bad)} of {len(self.channels)} channels; see below."
        left_out = self._left_out
        found = f"{_READ} It is not all: {'; '.join(left_out)}." if left_out else _WHOLE
        if self.checkpoints.newest is None:
            return (
                f"{found} There is no archive with checkpoints: each event was compared with its checksum, which does not show "
                "an event that somebody changed together with it."
            )
        signed = self.checkpoints.newest.signers
        by = f"signed by {', '.join(signed)}" if signed else "whose signature was not checked, for want of a key"
        which = "was read and is covered" if left_out else "is covered"
        return (
            f"{found} Each event that {which} was compared with its leaf in a tree whose root is under a checkpoint {by}; "
            "a newer one with its checksum."
        )

    @property
    def _left_out(self) -> list[str]:
        """Sentences about events that were recorded and could not be read, although nothing is wrong with them."""
        deleted = [f"{one.channel.wire} was {told}" for one in self.channels if (told := one.audit.deletion)]
        missing = [
            f"the newest {count:,} of {one.channel.wire} are recorded, but not in the archive"
            for one in self.channels
            if (count := one.audit.unread_count) and not one.audit.is_deleted
        ]
        found = deleted + missing
        if self.unread_deletions:
            told = f"records of deletions that are not in the archive: {self.unread_deletions:,}"
            found.insert(0, f"a channel may have been deleted ({told})")
        more = [f"{len(found) - _NAMED_MAX:,} more, see below"] if found[_NAMED_MAX:] else []
        return found[:_NAMED_MAX] + more

    def to_html(self) -> str:
        """The page."""
        types = sum((one.types for one in self.channels), Counter[str]())
        rows = [
            ("Tenant", self.tenant), ("Scope", self.scope), ("Period", self.period.text), ("Read from", self.source),
            ("Events in the period", f"{types.total():,}"), ("Made", rfc3339(self.made_ms)), ("Made with", self.tool),
        ]  # fmt: skip # a table
        parts = [
            f"<h1>Audit of {escape(self.scope)}</h1>",
            f'<p class="result{" bad" if self.fault_count else ""}">{escape(self.result)}</p>',
            "<h2>Scope</h2>", _facts(rows),
            "<h2>Channels</h2>",
            _table(
                ("Channel", "Events in the period", "First", "Last", "Newest event", "Covered up to", "Archived up to", "Result"),
                [_channel_row(one) for one in self.channels], {1, 4, 5, 6},
            ),
            "<h2>Events by type</h2>",
            _table(("Type", "Events"), [(name, f"{count:,}") for name, count in sorted(types.items())], {1}),
            "<h2>Checkpoints</h2>", _facts(self._checkpoint_rows()),
        ]  # fmt: skip # in the order of the page
        if self.fault_count:
            parts += ["<h2>Faults</h2>", _table(("Where", "Fault"), self._faults(), set())]
        parts += ["<h2>How to check this page</h2>", _HOW]
        return (
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Audit of {escape(self.scope)}</title>'
            f"<style>{_STYLE}</style></head><body>\n" + "\n".join(parts) + "\n</body></html>\n"
        )

    def _checkpoint_rows(self) -> list[tuple[str, str]]:
        found = self.checkpoints
        if found.newest is None:
            return [("Checkpoints", "none: there is no archive, or nothing in it yet")]
        newest, period = found.newest.checkpoint, found.in_period
        rows = [
            (
                "In the period",
                f"{period[1] - period[0] + 1:,}, number {period[0]:,} to {period[1]:,}" if period else "none",
            ),
            ("Newest", f"number {found.count:,} of {newest.origin}, with {newest.size:,} heads"),
            ("Its time", rfc3339(newest.time_s * 1000)),
            ("Its root", newest.root.hex()),
            ("Signed by", ", ".join(found.newest.signers) or "not checked: no key was given"),
            ("Stamped by RFC 3161", found.stamps or "not checked: no --tsa-ca was given"),
            ("Known keys", "\n".join(map(str, self.keys)) or "none"),
        ]
        for one in found.known:
            told = f"{one.checkpoint.size:,} heads, {rfc3339(one.checkpoint.time_s * 1000)}, signed by {', '.join(one.signers)}"
            rows.append(("Kept elsewhere and compared", told))
        return rows

    def _faults(self) -> list[tuple[str, str]]:
        own = [("log of heads", fault) for fault in self.log_faults]
        return own + [(one.channel.wire, fault) for one in self.channels for fault in one.audit.faults]


_HOW: Final = (
    "<p>Beside this page is its signature, in a file of the same name with <code>.sig</code> at the end. <code>hub audit check "
    "report.html --key KEY</code> compares both; KEY is the signer's public key, which you should have from another place than "
    "this page. Single events are proved with <code>hub audit prove</code>.</p>"
)


def _channel_row(one: ChannelReport) -> tuple[str, ...]:
    facts: dict[str, Any] = one.audit.to_json()
    archive = facts.get("archive", {})
    result = _result(one.audit)
    newest = max(facts["to_seq"], archive.get("covered_to_seq", 0))
    covered, archived = archive.get("covered_to_seq") or "-", archive.get("archived_to_seq") or "-"
    counts = (f"{newest:,}", str(covered), str(archived))
    return (one.channel.wire, f"{one.types.total():,}", _moment(one.first), _moment(one.last), *counts, result)


def _result(audit: Audit) -> str:
    if audit.faults:
        return f"not intact from seq {audit.first_bad_seq}"
    if audit.is_deleted:
        return str(audit.deletion)
    told = f"intact; recorded, but not read: {audit.unread_count:,}" if audit.unread_count else "intact"
    return f"{told}; before it {audit.deletion}" if audit.deletion else told


def _moment(time: str) -> str:
    return time[:19].replace("T", " ")


def _facts(rows: Sequence[tuple[str, str]]) -> str:
    lines = (f'<tr><th scope="row">{escape(name)}</th><td>{_text(text)}</td></tr>' for name, text in rows)
    return f"<table><tbody>{''.join(lines)}</tbody></table>"


def _table(names: Sequence[str], rows: Sequence[Sequence[str]], numbers: set[int]) -> str:
    def cell(tag: str, at: int, text: str) -> str:
        return f"<{tag}{' class=number' if at in numbers else ''}>{_text(text)}</{tag}>"

    head = "".join(cell("th", at, name) for at, name in enumerate(names))
    lines = ("".join(cell("td", at, text) for at, text in enumerate(row)) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _text(text: str) -> str:
    return "<br>".join(
        f"<code>{escape(one)}</code>" if len(one) > _CODE_FROM else escape(one) for one in text.split("\n")
    )


def signature_of(page: bytes, name: str, signer: Signer) -> bytes:
    """The signed note over a page."""
    text = f"{_FORM}\n{name}\nsha256 {sha256(page).hexdigest()}\n".encode()
    return text + b"\n" + signer.sign(text)


def check_signature(page: bytes, note: bytes, keys: Sequence[PublicKey]) -> str:
    """The sentence about a signed page.

    Raises:
        NoteRefused: the note is of another page, or none of the keys has signed it.
    """
    text, signers = open_note(note, keys)
    form, name, digest = (*text.decode().splitlines(), "", "", "")[:3]
    if form != _FORM:
        raise NoteRefused("this is not the signature of a report")
    if digest != f"sha256 {sha256(page).hexdigest()}":
        raise NoteRefused(f"the page is not the one that was signed as {name}: its SHA-256 is another")
    return f"the report {name} is as it was signed by {', '.join(signers)}"
