"""Generates `docs/events.md`, the reference of event types, from the catalogue. Pure except for its command line.

`python -m ops.event_reference > docs/events.md` writes the file; a test compares it with the generated text.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from types import MappingProxyType
from typing import Any, Final

from pydantic import TypeAdapter

from hub.protocol.examples import examples_of
from hub.protocol.schemas import errors_of
from projections.channel_state import state_schema
from streams.envelope import Lane
from streams.events import CATALOGUE, Direction, EventType, Payload, values
from streams.events.custom import CUSTOM
from streams.events.declaration import ALL_KINDS, READABLE_KINDS
from streams.events.schemas import Schema, schema_of

Node = Mapping[str, Any]
_HEAD: Final = """# Event types, version 1

Generated from the catalogue in `streams/events/` by `python -m ops.event_reference > docs/events.md`; do not edit it here.
What is around a payload (messages, handshake, cursors, errors, tokens) is in [protocol.md](protocol.md), and so are
the [values](protocol.md#values) that the tables name, the [lanes](protocol.md#lanes) and the [rate classes](protocol.md#rates).

- **Direction.** *to the hub*: a command. *from the hub*: clients receive it and may not send it. *both*: sent by a client,
  then delivered to every subscriber of the channel.
- **Lane.** *events*: stored and replayed, with `id` and `seq`. *live*: a signal. *connection*: on this connection only.
- **Examples** are messages as they travel: as sent, then as delivered or answered where that differs.
- **Errors** are those beyond what any command may be answered with: 4003, 4004, 4005, 4011, 4013, 4030; with a channel 4006;
  if stored 4009.
"""
_DIRECTIONS: Final = {Direction.IN: "to the hub", Direction.OUT: "from the hub", Direction.BOTH: "both"}
_NAMED: Final = {
    "EventId": "event id",
    "IdOrZero": "position",
    "Start": 'position or `"$"`',
    "ChannelName": "channel",
    "Name": "name",
    "RunId": "run id",
    "MessageId": "message id",
    "FileId": "file id",
    "ToolCallId": "tool call id",
    "Sha256": "SHA-256",
    "Link": "http or https URL, or a path",
    "Time": "time",
    "Meta": "metadata",
    "FileName": "file name ≤ 255",
}


def event_reference(catalogue: Mapping[str, EventType] = MappingProxyType({**CATALOGUE, CUSTOM.name: CUSTOM})) -> str:
    """The whole page: a section for each family, in the order of the catalogue."""
    served = [row for row in catalogue.values() if row.is_served]
    sections = [_HEAD]
    for family, rows in groupby(served, key=lambda row: row.family):
        sections.append(f"## {family}\n")
        sections += [_event(row) for row in rows]
    return "\n".join(sections).rstrip("\n") + "\n"


def _event(row: EventType) -> str:
    lines = [f"### `{row.name}`\n", f"{_first_sentence(row)}\n", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in _facts(row)]
    lines.append("")
    lines += _payload("payload", row.model)
    if row.delivered is not None:
        lines += _payload("delivered as", row.delivered)
    if row.reply_model is not None:
        lines += _payload(f"reply `{row.reply}`", row.reply_model)
    lines += ["```json", *(json.dumps(example, ensure_ascii=False) for example in examples_of(row)), "```", ""]
    return "\n".join(lines)


def _first_sentence(row: EventType) -> str:
    return " ".join((row.summary or row.model.__doc__ or "").split("\n\n")[0].split())


def _facts(row: EventType) -> Iterator[tuple[str, str]]:
    """Names and values of the declared properties that apply to the type."""
    yield "direction", _DIRECTIONS[row.direction]
    yield "lane", {Lane.EVENTS: "events", Lane.LIVE: "live", Lane.CONNECTION: "connection"}[row.lane]
    if row.kinds:
        yield "channels", "any kind" if row.kinds in {ALL_KINDS, READABLE_KINDS} else ", ".join(sorted(row.kinds))
    if row.is_inbound:
        yield "permission", f"`{row.action}`" if row.action else "none"
        if row.rate:
            yield "rate class", f"`{row.rate}`"
        yield "reply", _reply(row)
        if own := [code for code in errors_of(row) if code in row.errors]:
            yield "errors", ", ".join(map(str, own))
        if not row.is_id_required:
            yield "id", "may be left out; there is no reply then"
    if row.personal is not None:
        yield "sealed", "in the channels of `HUB_SEALED` ([erasure](guides/erasure.md))"
    yield "size limit", f"{row.limit_bytes:,} bytes"
    yield "version", str(row.version)
    if row.ag_ui:
        yield "AG-UI", row.ag_ui


def _reply(row: EventType) -> str:
    if row.reply is None:
        return "none"
    return f"`{row.reply}`" + (f" with {', '.join(f'`{name}`' for name in row.results)}" if row.results else "")


_STATE: Final = state_schema()


def _payload(title: str, model: type[Payload]) -> list[str]:
    """A table of the payload's fields, and one for each object inside it."""
    schema = schema_of(model, _STATE)
    if schema.get("additionalProperties") is True:
        return [f"{model.__doc__}\n"]
    if not schema.get("properties"):
        return [f"The {title} is empty.\n"]
    inner: Any = schema.get("$defs", {})
    lines = _table(title, schema)
    for name in _in_use(schema):
        lines += _table(f"{title}: {_spoken(name)}", inner[name])
    return lines


def _in_use(schema: Schema) -> list[str]:
    """The names of the nested objects, in the order of the fields that use them."""
    found: list[str] = []
    definitions: Any = schema.get("$defs", {})

    def visit(node: object) -> None:
        if isinstance(node, dict):
            name = str(node.get("$ref", "")).removeprefix("#/$defs/")
            if name and name not in found and definitions[name].get("properties"):
                found.append(name)
                visit(definitions[name]["properties"])
            for key, value in node.items():
                if key != "$defs":
                    visit(value)
        elif isinstance(node, list):
            for item in node:
                visit(item)

    visit(schema["properties"])
    return found


def _table(title: str, schema: Node) -> list[str]:
    required = schema.get("required", ())
    lines = [f"| {title} | type | | description |", "|---|---|---|---|"]
    for name, field in schema["properties"].items():
        default = json.dumps(field["default"]) if "default" in field else ""
        note = "required" if name in required else f"default `{default}`" if default else ""
        lines.append(f"| `{name}` | {kind_of(field)} | {note} | {_cell(field['description'])} |")
    return [*lines, ""]


def _cell(text: str) -> str:
    """A text within a table: a bar would end the cell, also within code."""
    return text.replace("|", "\\|")


def kind_of(field: Node) -> str:
    """The kind of a field as text."""
    if (known := _ALIASES.get(_shape(field))) is not None:
        return known
    if "$ref" in field:
        return _spoken(field["$ref"].removeprefix("#/$defs/"))
    if allowed := field.get("enum") or ("const" in field and [field["const"]]):
        return ", ".join(f"`{value}`" for value in allowed)
    if options := field.get("anyOf") or field.get("oneOf"):
        return " or ".join(dict.fromkeys(kind_of(option) for option in options))
    return _KINDS[field.get("type", "")](field)


def _json(field: Node) -> str:
    text = f"text ≤ {field['maxLength']:,} or " if "maxLength" in field else ""
    return f"{text}JSON ≤ {field['x-max-bytes']:,} bytes" if "x-max-bytes" in field else "any JSON"


def _text(field: Node) -> str:
    form = "base64" if "contentEncoding" in field else "text"
    if "maxLength" in field:
        return f"{form} ≤ {field['maxLength']:,}"
    return f"{form} ≤ {field['x-max-bytes']:,} bytes" if "x-max-bytes" in field else form


def _number(field: Node) -> str:
    low, high = field.get("minimum"), field.get("maximum")
    word = "integer" if field["type"] == "integer" else "number"
    low_shown = low is not None and low > -values.INT_MAX
    high_shown = high is not None and high < values.INT_MAX
    if low_shown and high_shown:
        return f"{word}, {low:,} to {high:,}"
    return f"{word} ≥ {low:,}" if low_shown else word


def _list(field: Node) -> str:
    least, most = field.get("minItems"), field.get("maxItems")
    bound = f"{least:,} to {most:,} " if least and most else f"≤ {most:,} " if most else ""
    return f"list of {bound}{kind_of(field['items'])}"


def _object(field: Node) -> str:
    patterns: Any = field.get("patternProperties") or {}
    inner = next(iter(patterns.values()), None) or field.get("additionalProperties")
    most = f", ≤ {field['maxProperties']:,}" if "maxProperties" in field else ""
    return f"object of {kind_of(inner)}{most}" if isinstance(inner, dict) else f"object{most}"


_KINDS: Final[Mapping[str, Callable[[Node], str]]] = {
    "string": _text,
    "integer": _number,
    "number": _number,
    "array": _list,
    "object": _object,
    "boolean": lambda _: "`true` or `false`",
    "null": lambda _: "null",
    "": _json,
}


def _shape(field: Node) -> str:
    """The constraints of a field without descriptions, for look-ups in `_ALIASES`."""
    words = {"examples", "description", "default", "title"}
    return json.dumps({key: value for key, value in field.items() if key not in words}, sort_keys=True)


def _spoken(name: str) -> str:
    """Turn `ModelSettings` into *model settings*."""
    return "*" + "".join(f" {c.lower()}" if c.isupper() else c for c in name).strip() + "*"


_ALIASES: Final[Mapping[str, str]] = {
    _shape(TypeAdapter(getattr(values, alias)).json_schema()): spoken for alias, spoken in _NAMED.items()
}
"""Names of value types by their constraints."""


if __name__ == "__main__":
    sys.stdout.write(event_reference())
