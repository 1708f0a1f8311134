"""Objects named by their import path in a setting: agents, handlers and custom projections."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from streams.errors import StreamsError


class ImportRefused(StreamsError):
    """The object that an import path names cannot be imported, or is not of the required kind; the text names it and the reason."""


def object_at(path: str) -> Any:
    """Imports what `module:object` names; the object may have dots.

    Raises:
        ImportRefused: there is no such module, or nothing of that name in it.
    """
    module, _, attribute = path.partition(":")
    try:
        found: Any = import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ImportRefused(f"{path} cannot be imported: {error}") from error
    return found
