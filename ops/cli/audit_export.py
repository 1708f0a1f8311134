"""Writes the events of channels to a file: JSON lines as on the wire, CSV, Parquet or CloudEvents.

Events are read page by page and written in small batches, so memory does not grow with the history. The file has its name only
once it is whole: until then it is `<name>.part`, which is removed if the export fails or is interrupted.
"""

from __future__ import annotations

import csv
import io
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Final, Protocol

from ops.cli.failure import EXIT_USAGE, CommandFailed
from ops.cli.selection import Holes, Selection, selected
from streams.audit.sources import HistorySource
from streams.channel import Channel
from streams.cursor import ms_of_id
from streams.envelope import Entry
from streams.times import rfc3339

COLUMNS: Final = (
    "channel", "seq", "id", "time", "type", "v", "actor_kind", "actor_id", "actor_client", "command", "causation",
    "correlation", "payload",
)  # fmt: skip # a table
_BATCH_EVENTS: Final = 5_000
_BATCH_BYTES: Final = 8_388_608
"""Events and bytes of payloads in a row group of Parquet, whose columns are then in memory."""
_TOLD_EVERY_S: Final = 5.0


class ExportFormat(StrEnum):
    """The format of an export."""

    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"
    CLOUDEVENTS = "cloudevents"


class EventWriter(Protocol):
    """Writes events in one format."""

    def write(self, channel: Channel, entry: Entry) -> None:
        """Write one event."""
        ...

    def finish(self) -> None:
        """Write what is still in memory, and the end of the file."""
        ...


class LineWriter:
    """JSON lines: events byte for byte as on the wire, or as CloudEvents."""

    def __init__(self, file: IO[bytes], *, is_cloud: bool) -> None:
        self._file, self._is_cloud = file, is_cloud

    def write(self, channel: Channel, entry: Entry) -> None:
        """See EventWriter."""
        line = to_json(cloud_event(channel, entry)) if self._is_cloud else entry.wire(channel.wire.encode())
        self._file.write(line.replace(b"\n", b" ") + b"\n")

    def finish(self) -> None:
        """See EventWriter."""


class CsvWriter:
    """CSV by RFC 4180 with a header, in UTF-8; the payload is JSON in one column."""

    def __init__(self, file: IO[bytes]) -> None:
        self._text = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
        self._rows = csv.writer(self._text)
        self._rows.writerow(COLUMNS)

    def write(self, channel: Channel, entry: Entry) -> None:
        """See EventWriter."""
        self._rows.writerow(row_of(channel, entry).values())

    def finish(self) -> None:
        """See EventWriter."""
        self._text.flush()
        self._text.detach()


class ParquetWriter:
    """Parquet through pyarrow, in row groups of a few thousand events."""

    def __init__(self, file: IO[bytes]) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ModuleNotFoundError as missing:
            raise CommandFailed("Parquet needs pyarrow: pip install 'realtime-hub[parquet]'") from missing
        kinds = {"seq": pyarrow.int64(), "v": pyarrow.int32(), "time": pyarrow.timestamp("ms", "UTC")}
        self._schema = pyarrow.schema([(name, kinds.get(name, pyarrow.string())) for name in COLUMNS])
        self._make = pyarrow.Table.from_pylist
        self._parquet = pyarrow.parquet.ParquetWriter(file, self._schema, compression="zstd")
        self._rows: list[dict[str, Any]] = []
        self._size_bytes = 0

    def write(self, channel: Channel, entry: Entry) -> None:
        """See EventWriter."""
        self._rows.append(row_of(channel, entry) | {"time": ms_of_id(entry.id)})
        self._size_bytes += len(entry.data)
        if len(self._rows) >= _BATCH_EVENTS or self._size_bytes >= _BATCH_BYTES:
            self._flush()

    def finish(self) -> None:
        """See EventWriter."""
        if self._rows:
            self._flush()
        self._parquet.close()

    def _flush(self) -> None:
        self._parquet.write_table(self._make(self._rows, schema=self._schema))
        self._rows, self._size_bytes = [], 0


def row_of(channel: Channel, entry: Entry) -> dict[str, Any]:
    """An event as a row of `COLUMNS`; an erased one has no payload, not even an empty one."""
    actor, meta = _object(entry.actor), _object(entry.meta)
    return {
        "channel": channel.wire,
        "seq": entry.seq,
        "id": entry.id.decode(),
        "time": rfc3339(ms_of_id(entry.id)),
        "type": entry.type.decode(),
        "v": int(entry.v),
        "actor_kind": actor.get("kind"),
        "actor_id": actor.get("id"),
        "actor_client": actor.get("client"),
        "command": meta.get("command"),
        "causation": meta.get("causation"),
        "correlation": meta.get("correlation"),
        "payload": None if entry.is_erased else entry.data.decode(),
    }


def cloud_event(channel: Channel, entry: Entry) -> dict[str, Any]:
    """An event as a CloudEvent 1.0 in JSON; `source` and `id` together name it. An erased one has no data."""
    actor, meta = _object(entry.actor), _object(entry.meta)
    extensions = {
        "sequence": f"{entry.seq:020}",
        "actorkind": actor.get("kind"),
        "actorid": actor.get("id"),
        "commandid": meta.get("command"),
        "causationid": meta.get("causation"),
        "correlationid": meta.get("correlation"),
        "traceparent": meta.get("traceparent"),
        "erased": True if entry.is_erased else None,
    }
    return {
        "specversion": "1.0",
        "id": entry.id.decode(),
        "source": f"/tenants/{channel.tenant}/channels/{channel.wire}",
        "type": entry.type.decode(),
        "time": rfc3339(ms_of_id(entry.id)),
        "datacontenttype": "application/json",
        "dataversion": int(entry.v),
        **{name: value for name, value in extensions.items() if value is not None},
        **({} if entry.is_erased else {"data": json.loads(entry.data)}),
    }


def to_json(facts: dict[str, Any]) -> bytes:
    """Compact JSON in UTF-8."""
    return json.dumps(facts, ensure_ascii=False, separators=(",", ":")).encode()


@lru_cache(maxsize=4_096)
def _object(raw: bytes) -> dict[str, str]:
    found: dict[str, str] = json.loads(raw)
    return found


def writer_to(file: IO[bytes], form: ExportFormat) -> EventWriter:
    """The writer of a format."""
    if form is ExportFormat.PARQUET:
        return ParquetWriter(file)
    if form is ExportFormat.CSV:
        return CsvWriter(file)
    return LineWriter(file, is_cloud=form is ExportFormat.CLOUDEVENTS)


def refuse_folder(path: Path) -> None:
    """Refuse a folder as the file to write, before the work begins.

    Raises:
        CommandFailed: it is one, or the folder that it would be in does not exist.
    """
    if path.is_dir():
        raise CommandFailed(f"{path} is a folder; name a file in it", EXIT_USAGE)
    if not path.parent.is_dir():
        raise CommandFailed(f"there is no folder {path.parent}", EXIT_USAGE)


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for writing that gets its name once the block ends; if the block fails, it is removed.

    Raises:
        CommandFailed: there is a folder of that name, or none to write it in.
    """
    refuse_folder(path)
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            part.unlink()
        raise


class ExportProgress:
    """Prints the progress of long work on stderr, every few seconds."""

    def __init__(self, doing: str, total: int) -> None:
        self._doing, self._total = doing, total
        self._at_s = time.monotonic()

    def show(self, count: int, channels: int) -> None:
        """Print it if it is due."""
        if count % 1_000 == 0 and time.monotonic() - self._at_s >= _TOLD_EVERY_S:
            self._at_s = time.monotonic()
            print(f"{self._doing} {count:,} events, {channels} of {self._total} channels", file=sys.stderr, flush=True)


async def export(
    source: HistorySource, channels: Iterable[Channel], wanted: Selection, form: ExportFormat, path: Path
) -> tuple[int, Holes]:
    """Write the selected events of channels to a file; returns their number, and what is missing.

    Raises:
        ChannelUnverified: a channel is not known; nothing is left of the file.
    """
    several, holes, count = list(channels), Holes(), 0
    progress = ExportProgress("exported", len(several))
    with whole_file(path) as file:
        writer = writer_to(file, form)
        for at, channel in enumerate(several):
            async for entry in selected(source, channel, wanted, holes):
                writer.write(channel, entry)
                count += 1
                progress.show(count, at)
        writer.finish()
    return count, holes
