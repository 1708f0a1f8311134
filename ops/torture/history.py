"""The recorded history of a run: what every client did and received, and which faults were injected.

The file contains JSON lines. Every record has `t`, milliseconds on the machine's monotonic clock (shared by all processes of a
run), and `k`:

| `k` | fields | meaning |
|---|---|---|
| `head` | `seed`, `tenants` {tenant: its marker}, `bounds` {name: number}, `expects`, `faults`, `about` | the run; see below |
| `invoke` | `op`, `p`, `tenant`, `user`, `node`, `via`, `type`, `channel`, `id`?, `payload`, `token`? | an operation begins |
| `ok` | `op`, `reply` {`type`, `payload`} | it was answered |
| `fail` | `op`, `code` | it was refused: nothing was stored |
| `unknown` | `op`, `why` | no answer, or one that leaves the outcome unknown; so is an operation without an end |
| `subscribe` | `r`, `p`, `tenant`, `user`, `node`, `via`, `channel`, `cursor` {`after`, `seq`?, `since`?}, … | a reader begins
|
| `subscribed` | `r`, `n`, `payload` | the answer to it; `n` is the size of the message in bytes |
| `got` | `r`, `n`, `e` [[seq, id, hash]…] | one message with events |
| `signal` | `r`, `raw` | one message of the live lane |
| `resumed` | `r`, `payload` | the end of a replay |
| `left` | `r`, `why`, `is_own` | the reader ended; `is_own`: the client ended it |
| `died` | `p` | the process was killed, and with it all its readers |
| `bytes` | `h`, `raw` | an event's bytes, recorded once for each hash |
| `token` | `id`, `tenant`, `user`, `ends` | a token, and when it expires |
| `log` | `tenant`, `channel`, `source`, `e` | the channel as read at the end, in pieces, in order |
| `effect` | `run`, `key` | an external effect of an agent |
| `fault` | `f`, `name`, `target`, `phase` (begin, end), `loses`? | a fault begins or ends |
| `skipped` | `name`, `why` | a fault that is impossible on this machine |
| `calm` | | there are no more faults |
| `end` | | there are no more operations |

Each of the head's `tenants` has a marker contained in everything its people write; `expects` lists what must be checked,
`faults` what must be injected. In an operation, `p` is the process and `id` the command ID. A reader is one subscription on one
connection. Its record has `there` if it counts as presence, `presence` if it follows presence, and, like an operation, an
optional `token`. A cursor's `since` is the time at which its event was received; an `after` of `?` means that the node restored
the subscription.

`loses`, at the beginning of a fault that destroys acknowledged events, is {`levels`: [durability…], `since`: t or null
(everything), `places`: [[tenant, channel]…] or null (all)}. Without it, a fault may delay anything but lose nothing.

Operations that are not commands have types of their own: `read.state`, `read.presence`, `read.page`, `file.put`, `file.get`,
`token.revoke`; their reply's payload is what they read.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

Record = dict[str, Any]
Place = tuple[str, str]
"""A tenant and a channel."""
_HASH_CHARACTERS: Final = 20


def now_ms() -> float:
    """The current time, for a record."""
    return round(time.monotonic() * 1000, 3)


def hash_of(raw: bytes) -> str:
    """A hash that names these bytes."""
    return hashlib.sha256(raw).hexdigest()[:_HASH_CHARACTERS]


class Recorder:
    """Writes one process's records. Every line is flushed, so that a killed process leaves all its records.

    Args:
        path: the file, which is overwritten.
        process: the process's name, with which the names of its operations and readers begin.
    """

    def __init__(self, path: Path, process: str) -> None:
        self.process = process
        self._file = path.open("w", encoding="utf-8", buffering=1)
        self._numbers = itertools.count(1)
        self._known: set[str] = set()

    def write(self, kind: str, **fields: Any) -> None:
        """Add a record with the current time. After `close` nothing is recorded, because it is no longer part of the run."""
        if self._file.closed:
            return
        self._file.write(json.dumps({"t": now_ms(), "k": kind, **fields}, separators=(",", ":")) + "\n")

    def name(self) -> str:
        """A name that no other operation or reader of the run has."""
        return f"{self.process}.{next(self._numbers)}"

    def invoke(self, **fields: Any) -> str:
        """Record the beginning of an operation; returns its name."""
        op = self.name()
        self.write("invoke", op=op, p=self.process, **fields)
        return op

    def bytes_of(self, raw: bytes) -> str:
        """The hash of an event's bytes, which are recorded when they are first seen."""
        name = hash_of(raw)
        if name not in self._known:
            self._known.add(name)
            self.write("bytes", h=name, raw=raw.decode())
        return name

    def close(self) -> None:
        """Stop recording."""
        self._file.close()


def read_records(path: Path) -> list[Record]:
    """Read the records of a file. A last line cut off by a kill is ignored; any other malformed line is an error.

    Raises:
        ValueError: a line is not a record.
    """
    lines = path.read_text(encoding="utf-8").split("\n")
    records = []
    for number, line in enumerate(lines):
        if not line:
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            if number == len(lines) - 1:
                break
            raise ValueError(f"{path}:{number + 1} is not a record ({error})") from error
        records.append(record)
    return records


def merge(parts: Iterable[Path], into: Path) -> None:
    """Join the processes' files into one, sorted by time."""
    records = sorted((record for part in parts for record in read_records(part)), key=lambda record: record["t"])
    with into.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(record, separators=(",", ":")) + "\n" for record in records)


@dataclass(slots=True)
class Op:
    """An operation, with the positions of its beginning and end in the list of records."""

    begin: int
    invoke: Record
    end: int | None = None
    outcome: Record | None = None

    @property
    def is_ok(self) -> bool:
        """True if it was answered, and not with an error."""
        return self.outcome is not None and self.outcome["k"] == "ok"

    @property
    def reply(self) -> Record:
        """The payload of the answer; empty if there is none."""
        return dict(self.outcome["reply"]["payload"]) if self.is_ok and self.outcome else {}

    @property
    def place(self) -> Place:
        """Its tenant and channel."""
        return self.invoke["tenant"], self.invoke["channel"]

    @property
    def began_ms(self) -> float:
        """The time at which it began."""
        return float(self.invoke["t"])

    @property
    def ended_ms(self) -> float:
        """The time of its answer; infinity if there is none."""
        return float(self.outcome["t"]) if self.outcome else float("inf")

    @property
    def lines(self) -> tuple[int, ...]:
        """The positions of its records."""
        return (self.begin,) if self.end is None else (self.begin, self.end)


@dataclass(frozen=True, slots=True)
class Loss:
    """A fault that may have destroyed acknowledged events.

    Attributes:
        is_trim: the channel keeps its epoch, so a repeated command is still answered with the event that was trimmed.
    """

    begin_ms: float
    end_ms: float
    levels: frozenset[str]
    since_ms: float | None
    places: frozenset[Place] | None
    is_trim: bool = False

    def touches(self, place: Place) -> bool:
        """True if it affected this channel."""
        return self.places is None or place in self.places

    def excuses(self, place: Place, level: str, sent_ms: float, again_ms: float, acked_ms: float) -> bool:
        """True if an event with these times of sending, repetition and acknowledgement, and this durability, may be missing."""
        is_early = self.since_ms is not None and acked_ms < self.since_ms
        is_later = (sent_ms if self.is_trim else again_ms) > self.end_ms
        return self.touches(place) and level in self.levels and not is_early and not is_later


@dataclass(slots=True)
class StoredChannel:
    """A channel as read at the end: (seq, ID, hash, line) in order."""

    entries: list[tuple[int, str, str, int]] = field(default_factory=list)


class History:
    """A run's records, with access by kind, operation, reader and channel."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = list(records)

    @classmethod
    def load(cls, path: Path) -> History:
        """Read the history from a file."""
        return cls(read_records(path))

    def of(self, *kinds: str) -> list[tuple[int, Record]]:
        """All records of these kinds, with their positions in the list."""
        return [found for kind in kinds for found in self._by_kind.get(kind, [])]

    @cached_property
    def _by_kind(self) -> dict[str, list[tuple[int, Record]]]:
        found: dict[str, list[tuple[int, Record]]] = {}
        for line, record in enumerate(self.records):
            found.setdefault(record["k"], []).append((line, record))
        return found

    @cached_property
    def head(self) -> Record:
        """The head record of the run."""
        heads = self.of("head")
        return heads[0][1] if heads else {"tenants": {}, "bounds": {}, "expects": []}

    def bound(self, name: str, default: float) -> float:
        """A time or size limit that the run must observe."""
        return float(self.head.get("bounds", {}).get(name, default))

    @cached_property
    def calm_ms(self) -> float:
        """The time at which the last fault ended."""
        calms = self.of("calm")
        return float(calms[-1][1]["t"]) if calms else float("inf")

    @cached_property
    def end_ms(self) -> float:
        """The time of the last record."""
        return float(self.records[-1]["t"]) if self.records else 0.0

    @cached_property
    def ops(self) -> list[Op]:
        """All operations, in the order in which they began."""
        found: dict[str, Op] = {}
        for line, record in enumerate(self.records):
            if record["k"] == "invoke":
                found[record["op"]] = Op(line, record)
            elif record["k"] in {"ok", "fail", "unknown"}:
                op = found[record["op"]]
                op.end, op.outcome = line, record
        return list(found.values())

    @cached_property
    def readers(self) -> dict[str, list[tuple[int, Record]]]:
        """All records of each reader."""
        found: dict[str, list[tuple[int, Record]]] = {}
        of_process: dict[str, list[str]] = {}
        for line, record in enumerate(self.records):
            if "r" in record:
                if record["k"] == "subscribe":
                    of_process.setdefault(record["p"], []).append(record["r"])
                found.setdefault(record["r"], []).append((line, record))
            elif record["k"] == "died":
                for reader in of_process.pop(record["p"], []):
                    if found[reader][-1][1]["k"] != "left":
                        found[reader].append((line, {**record, "k": "left", "why": "killed", "is_own": False}))
        return found

    @cached_property
    def raw(self) -> Mapping[str, str]:
        """The bytes of each hash, as text."""
        return {record["h"]: record["raw"] for _, record in self.of("bytes")}

    def event(self, name: str) -> Record:
        """The event with this hash, parsed."""
        held = self._parsed.get(name)
        if held is None:
            held = self._parsed[name] = json.loads(self.raw[name])
        return held

    @cached_property
    def _parsed(self) -> dict[str, Record]:
        return {}

    @cached_property
    def losses(self) -> list[Loss]:
        """The faults that may have destroyed events."""
        ends = {record["f"]: record["t"] for _, record in self.of("fault") if record["phase"] == "end"}
        found = []
        for _, record in self.of("fault"):
            if record["phase"] == "begin" and (loses := record.get("loses")):
                places = loses.get("places")
                found.append(
                    Loss(
                        record["t"],
                        ends.get(record["f"], float("inf")),
                        frozenset(loses["levels"]),
                        loses.get("since"),
                        None if places is None else frozenset((tenant, channel) for tenant, channel in places),
                        bool(loses.get("is_trim")),
                    )
                )
        return found

    def has_loss(self, place: Place, after_ms: float, before_ms: float) -> bool:
        """True if events of the channel may have been destroyed between the two times.

        An event received at `after_ms` may have been on its way for a while, so a loss that ended shortly before counts as
        well.
        """
        seen_ms = after_ms - self.bound("transit_ms", 3_000)
        return any(
            loss.touches(place) and loss.begin_ms <= before_ms and loss.end_ms >= seen_ms for loss in self.losses
        )

    @cached_property
    def _broken(self) -> list[tuple[float, float]]:
        """Start and end of each fault."""
        ends = {record["f"]: record["t"] for _, record in self.of("fault") if record["phase"] == "end"}
        begins = [record for _, record in self.of("fault") if record["phase"] == "begin"]
        return [(record["t"], ends.get(record["f"], float("inf"))) for record in begins]

    def times_of(self, fault: str) -> list[tuple[float, float]]:
        """Start and end of each fault of this kind."""
        named = [record for _, record in self.of("fault") if record["name"] == fault]
        ends = {record["f"]: record["t"] for record in named if record["phase"] == "end"}
        return [(record["t"], ends.get(record["f"], float("inf"))) for record in named if record["phase"] == "begin"]

    def is_disturbed(self, from_ms: float, to_ms: float) -> bool:
        """True if there was a fault between the two times, or up to a second before."""
        return any(begin <= to_ms and end >= from_ms - 1_000 for begin, end in self._broken)

    @cached_property
    def logs(self) -> dict[Place, StoredChannel]:
        """The contents of each channel at the end, from the source closest to the disk."""
        found: dict[Place, dict[str, StoredChannel]] = {}
        for line, record in self.of("log"):
            sources = found.setdefault((record["tenant"], record["channel"]), {})
            entries = sources.setdefault(record["source"], StoredChannel()).entries
            entries += [(seq, event_id, name, line) for seq, event_id, name in record["e"]]
        return {place: sources.get("redis") or next(iter(sources.values())) for place, sources in found.items()}

    @cached_property
    def sightings(self) -> dict[Place, dict[int, dict[str, tuple[str, float, float, int]]]]:
        """Channel → seq → hash → (ID, first seen, last seen, line of the first), from readers, pages and the log."""
        found: dict[Place, dict[int, dict[str, tuple[str, float, float, int]]]] = {}
        for place, line, record, entries in self._seen():
            for seq, event_id, name in entries:
                held = found.setdefault(place, {}).setdefault(seq, {})
                first = held.get(name, (event_id, record["t"], record["t"], line))
                held[name] = (event_id, first[1], record["t"], first[3])
        return found

    def _seen(self) -> Iterable[tuple[Place, int, Record, list[Any]]]:
        places = {record["r"]: (record["tenant"], record["channel"]) for _, record in self.of("subscribe")}
        pages = {op.invoke["op"]: op.place for op in self.ops if op.invoke["type"] == "read.page"}
        for line, record in enumerate(self.records):
            if record["k"] == "got":
                yield places[record["r"]], line, record, record["e"]
            elif record["k"] == "log":
                yield (record["tenant"], record["channel"]), line, record, record["e"]
            elif record["k"] == "ok" and record["op"] in pages:
                yield pages[record["op"]], line, record, record["reply"]["payload"]["e"]
