"""The golden files: a stored entry for every version of every durable event type ever released.

`python -m support.golden` (run in tests/) writes a file for each type whose current schema has none. It never changes a file,
because released events must stay readable.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from streams.envelope import Entry
from streams.events import CATALOGUE, EventType
from streams.events.schemas import schema_hash
from support.payloads import short_payload

FOLDER = Path(__file__).parent.parent / "golden"


class Golden(NamedTuple):
    """A golden file: the entry, and the hash of the schema under which it was written."""

    path: Path
    schema_sha256: str
    event: dict[str, object]

    @property
    def entry(self) -> Entry:
        """The event as it is read from a stream."""
        parts = (json.dumps(self.event[name], ensure_ascii=False).encode() for name in ("actor", "payload", "meta"))
        kind, v = str(self.event["type"]).encode(), str(self.event["v"]).encode()
        return Entry(str(self.event["id"]).encode(), int(str(self.event["seq"])), kind, v, *parts)


def golden_files() -> list[Golden]:
    """All golden files by name; for each type, older ones come first."""
    return [_read(path) for path in sorted(FOLDER.glob("*.json"), key=_age)]


def newest() -> dict[str, Golden]:
    """The newest golden file of each type."""
    return {str(golden.event["type"]): golden for golden in golden_files()}


def write_missing() -> Iterator[Path]:
    """Write a file for each durable type whose current schema has none."""
    present = newest()
    for name, row in CATALOGUE.items():
        if row.is_stored and (name not in present or present[name].schema_sha256 != schema_hash(row)):
            path = _free_path(row)
            path.write_text(json.dumps(_content(row), indent=2, ensure_ascii=False) + "\n")
            yield path


def _content(row: EventType) -> dict[str, object]:
    event = {
        "id": "1795367479511-0", "seq": 42, "channel": f"{min(row.kinds).value}:42", "type": row.name, "v": row.version,
        "actor": {"kind": "user", "id": "alice", "client": "c-1"}, "meta": {"command": "m-1"},
        "payload": short_payload(row),
    }  # fmt: skip # a table
    return {"schema_sha256": schema_hash(row), "event": event}


def _free_path(row: EventType) -> Path:
    """A new file name, `<type>.v<n>.json`.

    An optional field added later keeps the version, so the file name gets a further number.
    """
    stem = f"{row.name}.v{row.version}"
    numbers = (f"{stem}.json", *(f"{stem}.{number}.json" for number in range(2, 100)))
    return next(FOLDER / name for name in numbers if not (FOLDER / name).exists())


def _age(path: Path) -> tuple[str, int, int]:
    """Sort key of a file: its type, version, and number within the version."""
    name, _, rest = path.name.removesuffix(".json").rpartition(".v")
    version, _, number = rest.partition(".")
    return name, int(version), int(number or 1)


def _read(path: Path) -> Golden:
    content = json.loads(path.read_text())
    return Golden(path, content["schema_sha256"], content["event"])


if __name__ == "__main__":
    for written in write_missing():
        print(written)
