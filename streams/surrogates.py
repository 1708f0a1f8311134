"""Text of agents as UTF-8 can hold it: halves of a character are joined, and a half that stays alone is replaced. Pure.

A model's server that escapes its JSON may send a character beyond U+FFFF in two pieces, each a half.
"""

from __future__ import annotations


def joined(text: str) -> str:
    """The text with each pair of surrogates as its character, and each lone one as U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def split_half(text: str) -> tuple[str, str]:
    """The text and the first half of a character at its end, if there is one: the next piece may bring the other."""
    return (text[:-1], text[-1]) if "\ud800" <= text[-1:] <= "\udbff" else (text, "")
