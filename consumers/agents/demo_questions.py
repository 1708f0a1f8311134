"""What the demo agent understands: a question read as one of a few kinds. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, TypeAlias


@dataclass(frozen=True, slots=True)
class Count:
    """How many messages, of one person or of all."""

    who: str | None = None


@dataclass(frozen=True, slots=True)
class Find:
    """Who said something; `who` narrows it to one person, `is_last` asks for the newest time only."""

    words: str
    who: str | None = None
    is_last: bool = False


@dataclass(frozen=True, slots=True)
class Summary:
    """What has been going on, by counting."""


@dataclass(frozen=True, slots=True)
class Export:
    """The history as a table: shown to whoever can read the channel, so it is asked for first."""


@dataclass(frozen=True, slots=True)
class Help:
    """Anything else."""


Asked: TypeAlias = Count | Find | Summary | Export | Help

_NAME: Final = r"(?P<who>[\w.@|+~-]+)"
_PATTERNS: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), kind)
    for pattern, kind in (
        (r"\b(export|csv|download)\b", "export"),
        (r"\b(summar\w*|overview|what happened|what is going on)\b", "summary"),
        (rf"\bhow (many|often|much)\b.*?\b(did|has|have|does|from|by|of)\s+{_NAME}", "count_who"),
        (r"\bhow (many|often|much)\b", "count"),
        (rf"\bwhen did\s+{_NAME}\s+(last\s+)?(say|write|mention)\s+(about\s+)?(?P<words>.+)", "last"),
        (rf"\b(when did|when was)\s+{_NAME}\s+(last\s+)?(here|around|seen|write|say|speak)", "last_any"),
        (rf"\bwhat did\s+{_NAME}\s+(say|write)\s+about\s+(?P<words>.+)", "find_who"),
        (rf"\bwhat did\s+{_NAME}\s+(say|write)", "find_any"),
        (r"\bwho (said|wrote|mentioned|talked about)\s+(?P<words>.+)", "find"),
        (r"\b(search|find|look for|grep)\s+(for\s+)?(?P<words>.+)", "find"),
    )
)
_NOBODY: Final = frozenset(
    {"anyone", "anybody", "everyone", "everybody", "people", "messages", "we", "you", "there", "i"}
)


def read_question(text: str, by: str) -> Asked:
    """The first kind that fits. "I" and "me" are the one who asks."""
    for pattern, kind in _PATTERNS:
        if (found := pattern.search(text)) is not None:
            given = found.groupdict()
            return _made(kind, _person(given.get("who"), by), _words(given.get("words")))
    return Help()


def _made(kind: str, who: str | None, words: str) -> Asked:
    match kind:
        case "export":
            return Export()
        case "summary":
            return Summary()
        case "count" | "count_who":
            return Count(who)
        case "last" | "last_any":
            return Find(words, who, is_last=True)
        case _:
            return Find(words, who)


def _person(name: str | None, by: str) -> str | None:
    if name is None:
        return None
    if name.lower() in {"i", "me"}:
        return by
    return None if name.lower() in _NOBODY else name.rstrip(".?!")


def _words(text: str | None) -> str:
    return (text or "").strip().strip("\"'`“”").rstrip("?!. ").strip("\"'`“”")
