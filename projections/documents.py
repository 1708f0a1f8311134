"""A document: JSON built by patches, or opaque updates that clients merge themselves. Pure.

`version` counts updates exactly as the append script does. So a patch that was accepted by the script but does not apply is
counted and leaves the content unchanged, both here and in every client that follows the log. The hub calls `preview` to refuse
such a patch before it is stored; one that is stored nevertheless is treated as described.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from pydantic import Field

from projections.errors import PatchRefused
from projections.json_patch import Patched, PatchWork, apply_patch
from projections.projection import Dumped, Home, Projection
from projections.recorded import Recorded, broken, optional_list, optional_text
from streams.events.declaration import Payload
from streams.events.values import EventId, Int, Maybe
from streams.json_bytes import Json, JsonObject, weigh

CONTENT_WEIGHT_MAX: Final = 4 * 1024 * 1024
"""Maximum weight of a document, in characters (`json_bytes.weigh`). The document is sent with every state that contains it."""
JSON_MODE: Final = "json"
OPAQUE_MODE: Final = "opaque"


class DocumentFields(Payload):
    """The fields of `ChannelState` for a document."""

    mode: Literal["json", "opaque"] | None = Field(
        None,
        description="The form of the document, from its first update: JSON or opaque bytes; null before it. Only in a "
        "document.",
    )
    version: Maybe[Int] = Field(None, description="Number of updates so far; only in a document.")
    content: object = Field(None, description="The document, if its mode is `json`; absent otherwise.")
    updates_from: EventId | None = Field(
        None,
        description="ID of the first update, if the mode is `opaque`: replay from it, inclusive. Absent otherwise.",
    )


@dataclass(slots=True)
class Document:
    """A document after its updates.

    Attributes:
        mode: `json` or `opaque`, determined by the first update; None before that.
        version: number of updates.
        content: the JSON document, initially an empty object.
        updates_from: in opaque mode, the ID of the first update, from which (inclusive) a client replays.
        weight_bound: an upper bound of the content's weight, so that the content is weighed only if it may be too heavy.
    """

    mode: str | None = None
    version: int = 0
    content: Json = field(default_factory=dict)
    updates_from: str | None = None
    weight_bound: int = 8


def preview(state: Document, patch: Sequence[Json], work: PatchWork | None = None) -> Json:
    """The content after this patch, which may take at most the given amount of work.

    Raises:
        PatchRefused: the patch does not apply or takes too much work, or the document would be too large or nested too deeply.
    """
    return _patched(state, patch, work or PatchWork()).document


def _patched(state: Document, patch: Sequence[Json], work: PatchWork) -> Patched:
    """The content after the patch, and an upper bound of its weight."""
    content, added = apply_patch(state.content, patch, work)
    bound = state.weight_bound + added
    if bound > CONTENT_WEIGHT_MAX:
        bound, _ = weigh(content, CONTENT_WEIGHT_MAX)
        work.note(bound // 8)
    if bound > CONTENT_WEIGHT_MAX:
        raise PatchRefused(len(patch) - 1, "the document would be too large")
    return Patched(content, bound)


def _update(state: Document, event: Recorded) -> None:
    patch, update = optional_list(event, "patch"), optional_text(event, "update")
    if (patch is None) == (update is None):
        raise broken(event, "either patch or update must be given")
    if state.mode is None:
        state.mode = OPAQUE_MODE if patch is None else JSON_MODE
        state.updates_from = event.id if patch is None else None
    state.version += 1
    if patch is not None and state.mode == JSON_MODE:
        try:
            state.content, state.weight_bound = _patched(state, patch, PatchWork())
        except PatchRefused:
            return  # counted without a change: see the module's docstring


def _initial(_home: Home) -> Document:
    return Document()


def _render(state: Document) -> JsonObject:
    shown: JsonObject = {"mode": state.mode, "version": state.version}
    if state.mode == JSON_MODE:
        shown["content"] = state.content
    elif state.mode == OPAQUE_MODE:
        shown["updates_from"] = state.updates_from
    return shown


def _dump(state: Document) -> Json:
    return [state.mode, state.version, state.content, state.updates_from, state.weight_bound]


def _load(_home: Home, value: Dumped) -> Document:
    return Document(*value)


DOCUMENTS: Final = Projection(
    name="documents",
    version=1,
    model=DocumentFields,
    initial=_initial,
    handlers={"document.update": _update},
    render=_render,
    dump=_dump,
    load=_load,
)
"""The fold that provides `mode`, `version` and `content` or `updates_from` of documents."""
