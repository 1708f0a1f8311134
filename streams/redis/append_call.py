"""One call of scripts/append.lua: drafts as its KEYS and ARGV, its answers as values. Pure but for the random epoch it is given."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b

from streams.envelope import Appended, Draft, Durability, Lane
from streams.errors import GuardRefused, IdempotencyConflict, LogUnavailable, StreamsError
from streams.json_bytes import to_json
from streams.redis.keys import Keys
from streams.redis.limits import Limits

Result = Appended | StreamsError


class AppendCall:
    """Packs batches of one partition.

    Args:
        new_epoch: makes the random identity a channel gets with its first event.
    """

    def __init__(self, keys: Keys, new_epoch: Callable[[], str], limits: Limits) -> None:
        self._keys = keys
        self._new_epoch = new_epoch
        self._limits = limits

    def arguments(self, partition: int, drafts: list[Draft], label: bytes) -> list[bytes | str | int]:
        """KEYS and ARGV of scripts/append.lua, their number first; `label` is what the bell bears."""
        keys: list[bytes] = [self._keys.bell(partition), self._keys.work(partition)]
        places: dict[bytes, int] = {}

        def place(key: bytes, *followers: bytes) -> int:
            at = places.get(key)
            if at is None:
                keys.append(key)
                at = places[key] = len(keys)
                keys.extend(followers)
            return at

        kept = self._limits
        argv: list[bytes | str | int] = [
            self._new_epoch(), kept.idempotency_entries, kept.idempotency_ttl_s, kept.live_entries, kept.bell_entries,
            len(self._keys.prefix(partition)), label,
        ]  # fmt: skip
        for draft in drafts:
            argv.extend(self._record(draft, place))
        return [len(keys), *keys, *argv]

    def _record(self, draft: Draft, place: Callable[..., int]) -> tuple[bytes | str | int, ...]:
        names = self._keys.of(draft.channel)
        is_event = draft.lane is Lane.EVENTS
        idem, digest = 0, ""
        if draft.command and is_event:
            key = self._keys.idempotency(names.partition, draft.channel.tenant, draft.actor.id)
            idem = place(key, key + b":old")
            digest = _body_hash(draft)
        extra = self._extra(draft, place, names.open) if draft.guards or draft.open_text else b""
        return (
            "E" if is_event else "L", place(names.stream if is_event else names.live), place(names.meta) if is_event else 0,
            idem, draft.command or b"", digest, draft.type, draft.v, draft.actor.to_json(), draft.data, draft.meta_json(),
            "w" if draft.is_wanted else b"", extra,
        )  # fmt: skip

    def _extra(self, draft: Draft, place: Callable[..., int], open_key: bytes) -> bytes:
        guards = [
            {
                "k": place(self._keys.guard(draft.channel, g.name.removesuffix("@id"))),
                "c": g.checks,
                "s": g.sets,
                "i": g.increments,
                "d": g.decrements,
                "n": g.name.endswith("@id"),
                "t": g.ttl_s,
            }
            for g in draft.guards
        ]
        extra: dict[str, object] = {"g": guards} if guards else {}
        if (o := draft.open_text) is not None:
            head = to_json({"run_id": o.run_id, "attempt": o.attempt}).decode()
            kept = {"k": place(open_key), "m": o.message_id, "h": head, "s": o.track, "f": o.offset, "e": o.end}
            extra["o"] = kept | ({"t": o.text} if o.text is not None else {}) | ({"r": True} if o.is_reset else {})
        return to_json(extra)


def _body_hash(draft: Draft) -> str:
    body = b"%b\n%b\n%b" % (draft.channel.path.encode(), draft.type.encode(), draft.data)
    return blake2b(body, digest_size=8).hexdigest()


def read_answer(answer: bytes, durability: Durability) -> Result:
    """One string of the script's reply as a value."""
    verdict, _, rest = answer.partition(b" ")
    if verdict in {b"A", b"D"}:
        event_id, seq, *results = rest.split()
        return Appended(event_id.decode(), int(seq), verdict == b"D", durability, tuple(map(int, results)))
    if verdict == b"G":
        field, has_value, present = rest.decode().partition(" ")
        return GuardRefused(field, present if has_value else None)
    if verdict == b"C":
        return IdempotencyConflict("this command id was used before with another body")
    return LogUnavailable(f"Redis refused the entry: {rest.decode(errors='replace')}")
