"""JSON as it is stored and sent: compact, in UTF-8. Pure."""

from __future__ import annotations

import json
from typing import Final

_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def to_json(value: object) -> bytes:
    """The value as compact JSON in UTF-8.

    Raises:
        ValueError: it holds NaN or an infinity, which JSON has not, or refers to itself.
        TypeError: it holds something JSON has not.
    """
    return _ENCODER.encode(value).encode()
