"""Hostile messages made from the catalogue: near enough to what is valid to get far, wrong in one place or in many. Pure."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import NamedTuple

from streams.events import CATALOGUE
from support.payloads import broken_payloads, short_payload, valid_payloads

Fields = dict[str, object]
INBOUND = sorted(event.name for event in CATALOGUE.values() if event.is_inbound and event.is_served)
LARGE_BYTES = 4_096
"""Larger payloads are drawn seldom: they test limits, and limits need few."""
KINDS = ("conversation", "team", "document", "agent", "user")
CHANNELS = [f"{kind}:{name}" for kind in KINDS for name in ("1", "2", "fuzz.x", "a|b~c+d@e-f", "z" * 128)]
BAD_CHANNELS = ["", ":", "conversation", "conversation:", "room:1", "conversation:../x", "user:{p00}", "team:a b", "team:\u202e",
                "conversation:" + "x" * 129, "conversation:a\0b", "conversation:*", "CONVERSATION:1"]  # fmt: skip # texts
JUNK: list[object] = [
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63) - 1, 2**64, 1e308, 0.1, "", "\0", "\u202e\u2066", "\ud800", "a" * 300,
    "💥" * 50, "0-0", "1-1", "99999999999999999999-0", "../../etc/passwd", "<script>", "{{7*7}}", "' OR 1=1", "\r\nX: y",
    [], [[]], {}, {"": ""}, {"__proto__": 1}, [None] * 101, {"a": {"b": {"c": [1]}}}, "9999-12-31T23:59:59.999Z",
    "2027-02-30T00:00:00Z", "NaN",
]  # fmt: skip # a table
RAW = [
    b"", b"{", b"[]", b"{}", b"null", b"0", b'"x"', b"[1]", b"[[]]", b"[{}]", b'{"id":"r1"', b"\xef\xbb\xbf{}", b"{}{}",
    b"[" * 5_000, b'{"a":' * 3_000, b"[" + b"{}," * 200 + b"{}]", b'{"id":"r2","id":"r3","type":1}', b'[null,{},1,""]', b"\x00",
    b"1e999",
]  # fmt: skip # a table


class Message(NamedTuple):
    """One text message, and the ids in it that must be answered: id → most answers there may be."""

    data: bytes
    owed: dict[str, int]


class FrameSource:
    """An endless stream of messages from a seed.

    Args:
        seed: the same seed gives the same messages, as long as the same ids are learned.
        token: a valid one, for refreshing; empty sends none.
    """

    def __init__(self, seed: int, token: str = "") -> None:
        self._random = random.Random(seed)
        self._token = token
        self._count = 0
        self._known: list[str] = ["1-0"]
        self._good, self._small, self._large = _payloads()
        self._shapes: list[tuple[float, Callable[[], Message]]] = [
            (0.50, lambda: self._framed(self._valid)), (0.72, lambda: self._framed(self._broken)),
            (0.86, lambda: self._framed(self._mutated)), (0.91, self._array), (0.96, self._bent_frame), (0.99, self._bent_bytes),
            (1.0, self._raw),
        ]  # fmt: skip # a table

    def learn(self, text: str) -> None:
        """Something the hub said that may be worth saying back: an id, a revision, a run."""
        if len(self._known) >= 500:
            self._known[self._random.randrange(500)] = text
        else:
            self._known.append(text)

    def message(self) -> Message:
        """The next message."""
        drawn = self._random.random()
        return next(make for until, make in self._shapes if drawn <= until)()

    def _frame(self, payload_of: Callable[[str], object]) -> Fields:
        name = self._random.choice(INBOUND)
        if name in {"connection.init", "connection.reconnect"} and self._random.random() < 0.95:
            name = "chat.message"  # a second handshake closes: seldom enough to let the others be heard
        self._count += 1
        payload = payload_of(name)
        if name == "channel.configure" and isinstance(payload, dict):
            payload = {
                key: value for key, value in payload.items() if key != "access"
            }  # a list of names at random would shut everybody out of what follows
        frame: Fields = {"type": name, "id": f"f{self._count}", "payload": payload}
        if CATALOGUE[name].kinds:
            kinds = {kind.value for kind in CATALOGUE[name].kinds}
            frame["channel"] = self._random.choice([c for c in CHANNELS if c.partition(":")[0] in kinds])
        return frame

    def _framed(self, payload_of: Callable[[str], object]) -> Message:
        return _written([self._frame(payload_of)])

    def _valid(self, name: str) -> object:
        payload = dict(self._random.choice(self._good[name]))
        for key, value in payload.items():
            if (
                isinstance(value, str)
                and self._random.random() < 0.3
                and (key.endswith("_id") or key in {"up_to", "after"})
            ):
                payload[key] = self._random.choice(self._known)
        if name == "connection.refresh" and self._token and self._random.random() < 0.5:
            payload["token"] = self._token
        if name in {"channel.subscribe", "channel.unsubscribe"}:
            payload["channels"] = self._random.sample(CHANNELS, self._random.randint(1, 3))
        return payload

    def _broken(self, name: str) -> object:
        if self._large[name] and self._random.random() < 0.002:
            return self._random.choice(self._large[name])
        return self._random.choice(self._small[name])

    def _mutated(self, name: str) -> object:
        payload: object = self._random.choice(self._good[name])
        for _ in range(self._random.randint(1, 3)):
            payload = self._bend(payload)
        return payload

    def _bend(self, value: object, depth: int = 0) -> object:
        """The value with one place in it changed, removed, doubled or filled with junk."""
        if isinstance(value, dict) and value and depth < 6:
            key = self._random.choice(list(value))
            bent = dict(value)
            drawn = self._random.random()
            if drawn < 0.2:
                del bent[key]
            elif drawn < 0.3:
                bent[str(self._random.choice(JUNK))[:40]] = self._random.choice(JUNK)
            else:
                bent[key] = self._bend(value[key], depth + 1)
            return bent
        if isinstance(value, list) and value and depth < 6:
            at = self._random.randrange(len(value))
            return [*value[:at], self._bend(value[at], depth + 1), *value[at:]]
        return self._random.choice([*JUNK, self._random.choice(self._known)])

    def _array(self) -> Message:
        return _written([self._frame(self._valid) for _ in range(self._random.randint(1, 8))], is_array=True)

    def _bent_frame(self) -> Message:
        frame = self._frame(self._valid)
        drawn = self._random.random()
        if drawn < 0.4:
            frame["channel"] = self._random.choice(BAD_CHANNELS + CHANNELS)
        elif drawn < 0.6:
            frame["id"] = f"f{self._random.randint(1, self._count)}"  # one of before, with another body perhaps
        else:
            frame[self._random.choice(["type", "id", "channel", "payload", "extra"])] = self._random.choice(JUNK)
            return Message(_json(frame), {})
        return _written([frame])

    def _bent_bytes(self) -> Message:
        data = bytearray(
            self._framed(self._valid).data.replace(b'"id": "f', b'"id": "x')
        )  # not to become one that is owed
        for _ in range(self._random.randint(1, 4)):
            at = self._random.randrange(len(data)) if data else 0
            drawn = self._random.random()
            if drawn < 0.4 and data:
                data[at] = self._random.randrange(32, 127)
            elif drawn < 0.7:
                del data[at : at + self._random.randint(1, 9)]
            else:
                data[at:at] = self._random.choice([b'"', b"{", b"}", b"\\", b",", b"\\u0000", b"\\ud800", b"[[["])
        return Message(bytes(data), {})

    def _raw(self) -> Message:
        return Message(self._random.choice(RAW), {})


def _written(frames: list[Fields], *, is_array: bool = False) -> Message:
    owed: dict[str, int] = {}
    for frame in frames:
        payload = frame["payload"]
        channels = payload.get("channels") if isinstance(payload, dict) else None
        is_many = frame["type"] in {"channel.subscribe", "channel.unsubscribe"} and isinstance(channels, list)
        owed[str(frame["id"])] = max(1, len(channels)) if is_many and isinstance(channels, list) else 1
    data = _json(frames if is_array else frames[0])
    if is_array and b"\\ud8" in data:  # a lone surrogate makes the whole text unreadable, and an array has no id
        owed = {}
    return Message(data, owed)


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _payloads() -> tuple[dict[str, list[Fields]], dict[str, list[Fields]], dict[str, list[Fields]]]:
    """By type: valid ones, broken ones, and broken ones that are large."""
    good: dict[str, list[Fields]] = {}
    small: dict[str, list[Fields]] = {}
    large: dict[str, list[Fields]] = {}
    for name in INBOUND:
        event = CATALOGUE[name]
        valid = [case.payload for case in valid_payloads(event)]
        good[name] = [short_payload(event), *(payload for payload in valid if len(_json(payload)) <= LARGE_BYTES)]
        broken = [(case.payload, len(_json(case.payload)) <= LARGE_BYTES) for case in broken_payloads(event)]
        small[name] = [payload for payload, is_small in broken if is_small] or good[name]
        large[name] = [payload for payload, is_small in broken if not is_small]
    return good, small, large
