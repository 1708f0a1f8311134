"""The recorded history of a run: what every client did and got, and what was done to the hub meanwhile.

JSON lines. Every record has `t`, milliseconds on the machine's monotonic clock (one clock for all processes of a run), and `k`:

| `k` | fields | is |
|---|---|---|
| `head` | `seed`, `tenants` {tenant: its mark}, `bounds` {name: number}, `expects`, `faults`, `about` | the run; see below |
| `invoke` | `op`, `p`, `tenant`, `user`, `node`, `via`, `type`, `channel`, `id`?, `payload`, `token`? | an operation begins |
| `ok` | `op`, `reply` {`type`, `payload`} | it was answered |
| `fail` | `op`, `code` | it was refused: nothing was stored |
| `unknown` | `op`, `why` | no answer, or one that leaves it open. An operation without an end is unknown, too |
| `subscribe` | `r`, `p`, `tenant`, `user`, `node`, `via`, `channel`, `cursor` {`after`, `seq`?, `since`?}, … | a reader begins |
| `subscribed` | `r`, `n`, `payload` | what it was told; `n` is the size of the message in bytes |
| `got` | `r`, `n`, `e` [[seq, id, hash]…] | one message with events |
| `signal` | `r`, `raw` | one message of the live lane |
| `resumed` | `r`, `payload` | the receipt of a replay |
| `left` | `r`, `why`, `is_own` | it ended: by its own will, or not |
| `died` | `p` | the process was killed; all of its readers ended then |
| `bytes` | `h`, `raw` | an event's bytes, once for each hash |
| `token` | `id`, `tenant`, `user`, `ends` | a token, and when it expires |
| `log` | `tenant`, `channel`, `source`, `e` | the channel as it was read at the end, in pieces, in order |
| `effect` | `run`, `key` | something an agent did to the outside world |
| `fault` | `f`, `name`, `target`, `phase` (begin, end), `loses`? | something was broken, or is over |
| `skipped` | `name`, `why` | a fault this machine has not the means for |
| `calm` | | nothing is broken from here on |
| `end` | | nobody does anything any more |

The head's `tenants` have each a mark that stands in everything they write; `expects` names what must be looked at, `faults` what
must fire. Of an operation, `p` is the process and `id` the command's. A reader is one subscription on one connection;
`there` says that it counts as presence, `presence` that it follows presence, a cursor's `since` when its event was got (an
`after` of `?`: the node took the channel up by itself); it has a
`token`, too, as an operation may.

`loses`, at the begin of a fault that destroys what was acknowledged: {`levels`: [durability…], `since`: t or null (all there
was), `places`: [[tenant, channel]…] or null (all)}. Without it a fault may delay anything and lose nothing.

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
"""Tenant and channel."""
_HASH_CHARACTERS: Final = 20


def now_ms() -> float:
    """The time of a record."""
    return round(time.monotonic() * 1000, 3)


def hash_of(raw: bytes) -> str:
    """A name for these bytes."""
    return hashlib.sha256(raw).hexdigest()[:_HASH_CHARACTERS]


class Recorder:
    """Writes one process's records. Every line is flushed: a killed process leaves what it did up to then.

    Args:
        path: written anew.
        process: its name, the first part of operations' and readers' names.
    """

    def __init__(self, path: Path, process: str) -> None:
        self.process = process
        self._file = path.open("w", encoding="utf-8", buffering=1)
        self._numbers = itertools.count(1)
        self._known: set[str] = set()

    def write(self, kind: str, **fields: Any) -> None:
        """Add a record that happened now. After `close` nothing is recorded: what happens then is no part of the run."""
        if self._file.closed:
            return
        self._file.write(json.dumps({"t": now_ms(), "k": kind, **fields}, separators=(",", ":")) + "\n")

    def name(self) -> str:
        """A name no other operation or reader of the run has."""
        return f"{self.process}.{next(self._numbers)}"

    def invoke(self, **fields: Any) -> str:
        """An operation begins."""
        op = self.name()
        self.write("invoke", op=op, p=self.process, **fields)
        return op

    def bytes_of(self, raw: bytes) -> str:
        """The hash of an event's bytes, which are recorded the first time they are seen."""
        name = hash_of(raw)
        if name not in self._known:
            self._known.add(name)
            self.write("bytes", h=name, raw=raw.decode())
        return name

    def close(self) -> None:
        """No more records."""
        self._file.close()


def read_records(path: Path) -> list[Record]:
    """A file's records. A last line that was cut by a kill is left out; any other broken line is an error.

    Raises:
        ValueError: a line is no record.
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
            raise ValueError(f"{path}:{number + 1} is no record ({error})") from error
        records.append(record)
    return records


def merge(parts: Iterable[Path], into: Path) -> None:
    """Joins the processes' files into one, in the order of time."""
    records = sorted((record for part in parts for record in read_records(part)), key=lambda record: record["t"])
    with into.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(record, separators=(",", ":")) + "\n" for record in records)


@dataclass(slots=True)
class Op:
    """An operation: where it begins and ends in the list of records."""

    begin: int
    invoke: Record
    end: int | None = None
    outcome: Record | None = None

    @property
    def is_ok(self) -> bool:
        """It was answered, and the answer is no refusal."""
        return self.outcome is not None and self.outcome["k"] == "ok"

    @property
    def reply(self) -> Record:
        """The payload of the answer; empty without one."""
        return dict(self.outcome["reply"]["payload"]) if self.is_ok and self.outcome else {}

    @property
    def place(self) -> Place:
        """The tenant and the channel."""
        return self.invoke["tenant"], self.invoke["channel"]

    @property
    def began_ms(self) -> float:
        """The time it began."""
        return float(self.invoke["t"])

    @property
    def ended_ms(self) -> float:
        """The time its answer came; for ever without one."""
        return float(self.outcome["t"]) if self.outcome else float("inf")

    @property
    def lines(self) -> tuple[int, ...]:
        """Its records."""
        return (self.begin,) if self.end is None else (self.begin, self.end)


@dataclass(frozen=True, slots=True)
class Loss:
    """A fault that may have destroyed what was acknowledged.

    Attributes:
        is_trim: the channel's life goes on, so a command sent again later is still answered with the event that was trimmed.
    """

    begin_ms: float
    end_ms: float
    levels: frozenset[str]
    since_ms: float | None
    places: frozenset[Place] | None
    is_trim: bool = False

    def touches(self, place: Place) -> bool:
        """True if it reached this channel."""
        return self.places is None or place in self.places

    def excuses(self, place: Place, level: str, sent_ms: float, again_ms: float, acked_ms: float) -> bool:
        """True if an event first sent, sent again and acknowledged then at that durability may be missing."""
        is_early = self.since_ms is not None and acked_ms < self.since_ms
        is_later = (sent_ms if self.is_trim else again_ms) > self.end_ms
        return self.touches(place) and level in self.levels and not is_early and not is_later


@dataclass(slots=True)
class StoredChannel:
    """A channel as it was read at the end: (seq, id, hash, line) in order."""

    entries: list[tuple[int, str, str, int]] = field(default_factory=list)


class History:
    """A run's records with the ways into them."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = list(records)

    @classmethod
    def load(cls, path: Path) -> History:
        """The history in a file."""
        return cls(read_records(path))

    def of(self, *kinds: str) -> list[tuple[int, Record]]:
        """All records of these kinds with their places in the list."""
        return [found for kind in kinds for found in self._by_kind.get(kind, [])]

    @cached_property
    def _by_kind(self) -> dict[str, list[tuple[int, Record]]]:
        found: dict[str, list[tuple[int, Record]]] = {}
        for line, record in enumerate(self.records):
            found.setdefault(record["k"], []).append((line, record))
        return found

    @cached_property
    def head(self) -> Record:
        """The run's own record."""
        heads = self.of("head")
        return heads[0][1] if heads else {"tenants": {}, "bounds": {}, "expects": []}

    def bound(self, name: str, default: float) -> float:
        """A bound the run was promised."""
        return float(self.head.get("bounds", {}).get(name, default))

    @cached_property
    def calm_ms(self) -> float:
        """The time from which nothing was broken any more."""
        calms = self.of("calm")
        return float(calms[-1][1]["t"]) if calms else float("inf")

    @cached_property
    def end_ms(self) -> float:
        """The time of the last record."""
        return float(self.records[-1]["t"]) if self.records else 0.0

    @cached_property
    def ops(self) -> list[Op]:
        """All operations in the order they began."""
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
        """Reader → all its records."""
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
        """Hash → the bytes it names, as text."""
        return {record["h"]: record["raw"] for _, record in self.of("bytes")}

    def event(self, name: str) -> Record:
        """The event of this hash, parsed."""
        held = self._parsed.get(name)
        if held is None:
            held = self._parsed[name] = json.loads(self.raw[name])
        return held

    @cached_property
    def _parsed(self) -> dict[str, Record]:
        return {}

    @cached_property
    def losses(self) -> list[Loss]:
        """The faults that may have destroyed something."""
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
        """True if something may have been destroyed in the channel in that time.

        What was seen at `after_ms` had been on its way for a while: it may be from before a loss that had ended by then.
        """
        seen_ms = after_ms - self.bound("transit_ms", 3_000)
        return any(
            loss.touches(place) and loss.begin_ms <= before_ms and loss.end_ms >= seen_ms for loss in self.losses
        )

    @cached_property
    def _broken(self) -> list[tuple[float, float]]:
        """From when to when each fault went on."""
        ends = {record["f"]: record["t"] for _, record in self.of("fault") if record["phase"] == "end"}
        begins = [record for _, record in self.of("fault") if record["phase"] == "begin"]
        return [(record["t"], ends.get(record["f"], float("inf"))) for record in begins]

    def times_of(self, fault: str) -> list[tuple[float, float]]:
        """From when to when each fault of a kind went on."""
        named = [record for _, record in self.of("fault") if record["name"] == fault]
        ends = {record["f"]: record["t"] for record in named if record["phase"] == "end"}
        return [(record["t"], ends.get(record["f"], float("inf"))) for record in named if record["phase"] == "begin"]

    def is_disturbed(self, from_ms: float, to_ms: float) -> bool:
        """True if anything was broken in that time, or a second before."""
        return any(begin <= to_ms and end >= from_ms - 1_000 for begin, end in self._broken)

    @cached_property
    def logs(self) -> dict[Place, StoredChannel]:
        """Channel → what it held at the end, from the source nearest to the disk."""
        found: dict[Place, dict[str, StoredChannel]] = {}
        for line, record in self.of("log"):
            sources = found.setdefault((record["tenant"], record["channel"]), {})
            entries = sources.setdefault(record["source"], StoredChannel()).entries
            entries += [(seq, event_id, name, line) for seq, event_id, name in record["e"]]
        return {place: sources.get("redis") or next(iter(sources.values())) for place, sources in found.items()}

    @cached_property
    def sightings(self) -> dict[Place, dict[int, dict[str, tuple[str, float, float, int]]]]:
        """Channel → seq → hash → (id, first seen, last seen, line of the first), by readers, pages and the log alike."""
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
