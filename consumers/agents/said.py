"""A message as an agent reads it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Said:
    """A message as it was said: who, when (milliseconds since 1970), and the words."""

    message_id: str
    role: Literal["user", "assistant"]
    by: str
    text: str
    at_ms: int
