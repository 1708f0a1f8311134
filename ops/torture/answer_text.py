"""The text the torture's agent gives to a question: a function of the question, so that every reader can work it out. Pure."""

from __future__ import annotations

import hashlib
from typing import Final

PIECES: Final = 24


def pieces_of(question: str) -> list[str]:
    """The answer in the pieces it is streamed in: of several lengths, with letters outside of the basic plane."""
    seed = hashlib.sha256(question.encode()).hexdigest()
    words = [seed[at : at + 1 + int(seed[at], 16)] for at in range(PIECES)]
    mark = question[: question.find("|") + 1]
    return [mark, *(f"{word}𝄞 é" for word in words)]


def answer_of(question: str) -> str:
    """The whole answer."""
    return "".join(pieces_of(question))
