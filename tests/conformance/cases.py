"""The cases that every client has to pass: the steps of hub and user, and what the reader must have seen in the end.

A step is the name of a method of `Stage` and its arguments.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

Step: TypeAlias = tuple[Any, ...]
FOLLOW: Final = ("follow", "0")


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes:
        steps: in turn.
        events: the texts that the reader has seen, in order, each with its seq.
        others: everything else that was told, in order within its kind: kind → what it says.
        ways: the ways that events came by, without repetitions; None: any.
        tokens: handed out one after another; the last one again and again.
    """

    name: str
    steps: list[Step]
    events: str
    others: dict[str, list[Any]] = field(default_factory=dict)
    ways: list[str] | None = field(default_factory=lambda: ["websocket"])
    tokens: str = "good"


def cut_cases() -> list[Case]:
    """A talk that is cut after each message of the hub, in the middle of the next one."""
    talk: list[Step] = [
        ("append", "a", "b"), FOLLOW, ("send", "c", "id-c"), ("append", "d", "e"), ("send", "f", "id-f"), ("append", "g"),
        ("events", 7),
    ]  # fmt: skip # a talk
    stored = {"stored": [["id-c", 3], ["id-f", 6]]}
    sockets = [
        Case(f"cut after message {n}", [("cut_after", n), *talk], "abcdefg", stored, ["websocket"] if n else None)
        for n in range(11)
    ]  # cut before the acknowledgement, it may have gone on over HTTP
    twice = [Case("cut again and again", [("cut_after", 2, 1, 1, 3, 2), *talk], "abcdefg", stored)]
    streams = [
        Case(
            f"a stream cut after message {n}",
            [("refuse_upgrades",), ("cut_after", n), *talk],
            "abcdefg",
            stored,
            ["http-stream"],
        )
        for n in range(9)
    ]
    return sockets + twice + streams


FALLBACKS: Final = {"http-stream": [("refuse_upgrades",)], "http-poll": [("refuse_upgrades",), ("hold_streams",)]}
EPOCH: Final = ["epoch_changed", None, None]

CASES: Final = [
    *cut_cases(),
    Case(
        "too much",
        [FOLLOW, ("append", "a"), ("repeat",), ("append", "b"), ("repeat",), ("append", "c"), ("events", 3)],
        "abc",
    ),
    Case(
        "too much in a replay",
        [("append", "a", "b"), ("doubled_replay",), FOLLOW, ("append", "c"), ("events", 3)],
        "abc",
    ),
    Case("too little", [FOLLOW, ("append", "a"), ("leave_out", "b"), ("append", "c"), ("events", 3)], "abc"),
    Case(
        "too little in a replay",
        [("append", "a", "b", "c"), ("short_replay",), FOLLOW, ("append", "d"), ("events", 4)],
        "abcd",
    ),
    Case("out of order", [FOLLOW, ("append", "a"), ("swapped", "b", "c"), ("append", "d"), ("events", 4)], "abcd"),
    Case(
        "a gap",
        [
            FOLLOW,
            ("append", "a"),
            ("events", 1),
            ("missed", "b", "c", "d"),
            ("trim", 1),
            ("cut",),
            ("gap", 1),
            ("append", "e"),
            ("events", 2),
        ],
        "a...e",
        {"gap": [["trimmed", 2, 3]]},
    ),
    Case(
        "a gap at the start",
        [("append", "a", "b", "c"), ("trim", 1), FOLLOW, ("gap", 1), ("append", "d"), ("events", 1)],
        "...d",
        {"gap": [["trimmed", 1, 2]]},
    ),
    Case(
        "a new epoch, told",
        [FOLLOW, ("append", "x", "y"), ("events", 2), ("flush",), ("gap", 1), ("append", "a", "b", "c"), ("events", 5)],
        "xy|abc",
        {"gap": [EPOCH]},
    ),
    Case(
        "a new epoch, while away",
        [
            FOLLOW,
            ("append", "x"),
            ("events", 1),
            ("flush_unseen",),
            ("missed", "a", "b"),
            ("cut",),
            ("gap", 1),
            ("append", "c"),
            ("events", 2),
        ],
        "x|..c",
        {"gap": [EPOCH]},
    ),
    Case(
        "4002",
        [FOLLOW, ("append", "a"), ("events", 1), ("expire", "old"), ("missed", "b"), ("append", "c"), ("events", 3)],
        "abc",
        tokens="old,new",
    ),
    Case(
        "4002 at the start",
        [("forbid", "old", 4002, "refresh"), ("append", "a"), FOLLOW, ("append", "b"), ("events", 2)],
        "ab",
        tokens="old,new",
    ),
    Case("4001", [("forbid", "forged", 4001, "no"), ("follow_in_vain", "0")], "", {"over": [4001]}, [], "forged"),
    Case(
        "a channel that is denied",
        [("forbid", "conversation:1", 4003, "no"), ("follow_in_vain", "0")],
        "",
        {"over": [4003]},
        [],
    ),
    Case(
        "a command that is denied",
        [FOLLOW, ("forbid", "bad", 4003, "no"), ("send_in_vain", "bad", "id-1"), ("append", "a"), ("events", 1)],
        "a",
        {"refused": [["id-1", 4003]]},
    ),
    Case(
        "later, and then",
        [FOLLOW, ("put_off", "id-1", 2), ("send", "a", "id-1"), ("events", 1)],
        "a",
        {"stored": [["id-1", 1]]},
    ),
    Case(
        "a drain",
        [FOLLOW, ("append", "a"), ("events", 1), ("drain", 300), ("missed", "b"), ("append", "c"), ("events", 3)],
        "abc",
    ),
    Case(
        "fallback and return",
        [
            FOLLOW,
            ("append", "a"),
            ("events", 1),
            ("refuse_upgrades",),
            ("cut",),
            ("missed", "b"),
            ("events", 2),
            ("allow_upgrades",),
            ("returned",),
            ("send", "c", "id-c"),
            ("append", "d"),
            ("events", 4),
        ],
        "abcd",
        {"stored": [["id-c", 3]]},
        ["websocket", "http-stream", "websocket"],
    ),
    Case(
        "long polls and return",
        [
            *FALLBACKS["http-poll"],
            ("append", "a"),
            FOLLOW,
            ("append", "b"),
            ("events", 2),
            ("allow_upgrades",),
            ("returned",),
            ("append", "c"),
            ("events", 3),
        ],
        "abc",
        {},
        ["http-poll", "websocket"],
    ),
    *(
        Case(
            f"{way}: {case.name}",
            begin + case.steps,
            case.events,
            case.others,
            [way] if case.events else [],
            case.tokens,
        )
        for way, begin in FALLBACKS.items()
        for case in (
            Case(
                "a talk",
                [("append", "a"), FOLLOW, ("send", "b", "id-b"), ("append", "c"), ("events", 3)],
                "abc",
                {"stored": [["id-b", 2]]},
            ),
            Case(
                "a gap at the start",
                [("append", "a", "b", "c"), ("trim", 1), FOLLOW, ("gap", 1), ("append", "d"), ("events", 1)],
                "...d",
                {"gap": [["trimmed", 1, 2]]},
            ),
            Case(
                "a new epoch",
                [
                    FOLLOW,
                    ("append", "x", "y"),
                    ("events", 2),
                    ("flush",),
                    ("gap", 1),
                    ("append", "a", "b", "c"),
                    ("events", 5),
                ],
                "xy|abc",
                {"gap": [EPOCH]},
            ),
            Case(
                "4002 at the start",
                [("forbid", "old", 4002, "refresh"), ("append", "a"), FOLLOW, ("append", "b"), ("events", 2)],
                "ab",
                tokens="old,new",
            ),
            Case(
                "4001",
                [("forbid", "forged", 4001, "no"), ("follow_in_vain", "0")],
                "",
                {"over": [4001]},
                tokens="forged",
            ),
        )
    ),
]


def seen_events(events: str) -> list[list[Any]]:
    """The events of a text: a letter for each that was seen, a point for each that was not, a bar where an epoch begins."""
    found: list[list[Any]] = []
    for epoch in events.split("|"):
        found += [[seq, text] for seq, text in enumerate(epoch, 1) if text != "."]
    return found
