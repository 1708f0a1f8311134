"""The golden files: one stored entry of every version of every durable type ever released.

`python -m support.golden` (in tests/) writes a file for each type whose schema has none yet. It never changes one: what
was released stays readable.
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
    """One file: the entry, and the hash of the schema it was written under."""

    path: Path
    schema_sha256: str
    event: dict[str, object]

    @property
    def entry(self) -> Entry:
        """The event as it is read back from a stream."""
        parts = (json.dumps(self.event[name], ensure_ascii=False).encode() for name in ("actor", "payload", "meta"))
        kind, v = str(self.event["type"]).encode(), str(self.event["v"]).encode()
        return Entry(str(self.event["id"]).encode(), int(str(self.event["seq"])), kind, v, *parts)


def golden_files() -> list[Golden]:
    """Every golden file, by name, older ones of a type before newer ones."""
    return [_read(path) for path in sorted(FOLDER.glob("*.json"), key=_age)]


def newest() -> dict[str, Golden]:
    """Type → its newest golden file."""
    return {str(golden.event["type"]): golden for golden in golden_files()}


def write_missing() -> Iterator[Path]:
    """Write a file for each durable type whose present schema has none."""
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
    """`<type>.v<n>.json`; an optional field added later keeps the version, so its file gets a number of its own."""
    stem = f"{row.name}.v{row.version}"
    numbers = (f"{stem}.json", *(f"{stem}.{number}.json" for number in range(2, 100)))
    return next(FOLDER / name for name in numbers if not (FOLDER / name).exists())


def _age(path: Path) -> tuple[str, int, int]:
    """Type, version, number of the file within the version."""
    name, _, rest = path.name.removesuffix(".json").rpartition(".v")
    version, _, number = rest.partition(".")
    return name, int(version), int(number or 1)


def _read(path: Path) -> Golden:
    content = json.loads(path.read_text())
    return Golden(path, content["schema_sha256"], content["event"])


if __name__ == "__main__":
    for written in write_missing():
        print(written)
