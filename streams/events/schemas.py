"""The JSON Schemas of the catalogue and their hash (docs/protocol.md#versions). Pure.

A hash covers the allowed payloads and not their documentation: titles, descriptions and examples are excluded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from types import MappingProxyType
from typing import Final

from streams.events.declaration import EventType, Payload

Schema = dict[str, object]
NOTHING_MORE: Final[Mapping[str, Schema]] = MappingProxyType({})
_WORDS: Final = frozenset({"description", "examples"})


def schema_of(model: type[Payload], inner: Mapping[str, Schema] = NOTHING_MORE) -> Schema:
    """The JSON Schema (2020-12) of a payload, without generated titles and without the null default of optional fields.

    A nested model is published under its title, which is its class name unless `model_config` sets another.

    Args:
        model: the payload.
        inner: schemas by published name. They replace nested models whose fields are declared elsewhere (`ChannelState`, by the
            projections), and include the schemas that they refer to.
    """
    schema = model.model_json_schema()
    inside: dict[str, dict[str, object]] = schema.get("$defs", {})
    names = {name: str(one.get("title", name)) for name, one in inside.items()}
    if len(set(names.values())) != len(names):
        raise ValueError(f"two models inside {model.__name__} have the same title")
    cleaned = _cleaned(_renamed(schema, {f"#/$defs/{old}": f"#/$defs/{new}" for old, new in names.items()}))
    assert isinstance(cleaned, dict)  # noqa: S101 - tells the type checker what _cleaned keeps
    if inside:
        published = {names[name]: one for name, one in cleaned["$defs"].items()}
        cleaned["$defs"] = {**published, **inner} if published.keys() & inner.keys() else published
    return cleaned


def schemas_of(event_type: EventType, inner: Mapping[str, Schema] = NOTHING_MORE) -> dict[str, Schema]:
    """All schemas of a type: `payload` as its sender writes it, and `delivered` and `reply` where they differ."""
    if event_type.own_schema is not None:
        return {"payload": dict(event_type.own_schema.document)}
    models = {"payload": event_type.model, "delivered": event_type.delivered, "reply": event_type.reply_model}
    return {role: schema_of(model, inner) for role, model in models.items() if model is not None}


def schema_hash(event_type: EventType, inner: Mapping[str, Schema] = NOTHING_MORE) -> str:
    """SHA-256, in hex, of the schemas of this type."""
    return _hash({"v": event_type.version, **schemas_of(event_type, inner)})


def catalogue_hash(catalogue: Mapping[str, EventType], inner: Mapping[str, Schema] = NOTHING_MORE) -> str:
    """SHA-256, in hex, of all schemas: two hubs with the same hash understand each other's payloads."""
    return _hash({name: schema_hash(catalogue[name], inner) for name in sorted(catalogue)})


def _hash(value: Mapping[str, object]) -> str:
    return sha256(json.dumps(_wordless(value), sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _renamed(value: object, names: Mapping[str, str]) -> object:
    """The schema with every reference renamed."""
    if isinstance(value, dict):
        return {
            key: names.get(inner, inner) if key == "$ref" and isinstance(inner, str) else _renamed(inner, names)
            for key, inner in value.items()
        }
    return [_renamed(item, names) for item in value] if isinstance(value, list) else value


def _cleaned(value: object) -> object:
    """Remove generated titles, and `default: null`, which only means that a field is optional.

    A property may itself be named `title`; its value is a schema and not a string, so it is kept.
    """
    if isinstance(value, dict):
        return {name: _cleaned(inner) for name, inner in value.items() if not _is_noise(name, inner)}
    return [_cleaned(item) for item in value] if isinstance(value, list) else value


def _is_noise(name: str, value: object) -> bool:
    return (
        (name == "title" and isinstance(value, str))
        or (name == "default" and value is None)
        or (name == "discriminator" and isinstance(value, dict) and "mapping" in value)  # OpenAPI's, not JSON Schema's
    )


def _wordless(value: object) -> object:
    """The schema without descriptions and examples; properties with these names are kept."""
    if isinstance(value, Mapping):
        return {k: _wordless(v) for k, v in value.items() if not (k in _WORDS and isinstance(v, str | list))}
    return [_wordless(item) for item in value] if isinstance(value, list) else value
