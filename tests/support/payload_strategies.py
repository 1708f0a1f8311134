"""Hypothesis strategies for payloads, derived from the catalogue's JSON Schemas. Pure."""

from __future__ import annotations

from functools import cache

from hypothesis import strategies as st

from streams.events import EventType
from support.payloads import ALTERNATIVES, fixed_fields, others_of, schema_of
from support.samples import Samples, Schema, entries_of, is_free

Strategy = st.SearchStrategy
TEXT_MAX = 40
"""Maximum length of generated texts; unit tests cover the length limits, and these strategies vary the structure."""
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
    max_leaves=8,
)
"""Small JSON values, which are very unlikely to be nested deeper than a payload may be. No NUL, because a bare text must not
contain one.
"""


@cache
def payloads(event_type: EventType) -> Strategy[dict[str, object]]:
    """Valid payloads of a type: any subset of its optional fields, with any valid values."""
    schema = schema_of(event_type.model)
    options = ALTERNATIVES.get(event_type.name, (frozenset(),))

    def with_fields(chosen: frozenset[str]) -> Strategy[dict[str, object]]:
        drawn = _Values(schema).fields(schema, always=chosen, never=others_of(event_type.name, chosen))
        return drawn.map(lambda payload: {**payload, **fixed_fields(event_type.name, chosen)})

    return st.sampled_from(options).flatmap(with_fields)


class _Values:
    """Strategies for the parts of one root schema."""

    def __init__(self, root: Schema) -> None:
        self.samples = Samples(root)

    def of(self, schema: Schema) -> Strategy[object]:
        """Any value of a schema."""
        drawn = st.one_of([self._branch(branch) for branch in self.samples.branches(schema)])
        return drawn | st.none() if self.samples.allows_null(schema) else drawn

    def fields(self, schema: Schema, always: frozenset[str], never: frozenset[str]) -> Strategy[dict[str, object]]:
        """Objects with the required fields, those in `always`, and any other fields except those in `never`."""
        known = {name: self.of(field) for name, field in schema.get("properties", {}).items() if name not in never}
        required = always.union(schema.get("required", []))
        return st.fixed_dictionaries(
            {name: value for name, value in known.items() if name in required},
            optional={name: value for name, value in known.items() if name not in required},
        )

    def _branch(self, schema: Schema) -> Strategy[object]:
        if "const" in schema or "enum" in schema:
            return st.sampled_from(schema.get("enum", [schema.get("const")]))
        if is_free(schema):
            return JSON.filter(lambda value: value is not None or "not" not in schema)
        return getattr(self, f"_{schema['type']}")(schema)

    def _string(self, schema: Schema) -> Strategy[str]:
        if "examples" in schema:
            return st.sampled_from(schema["examples"])
        if "contentEncoding" in schema:
            return st.sampled_from(["", "AA==", "AAE=", "AAEC"])
        longest = min(schema.get("maxLength", TEXT_MAX), TEXT_MAX)
        if schema.get("pattern", "").startswith("^[^"):
            return st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=longest)
        return st.text("abcXYZ019_.-", min_size=1, max_size=longest)

    def _integer(self, schema: Schema) -> Strategy[int]:
        return st.integers(schema.get("minimum", -(2**63)), schema.get("maximum", 2**63 - 1))

    def _number(self, schema: Schema) -> Strategy[float]:
        return st.floats(schema["minimum"], schema["maximum"], allow_nan=False)

    def _boolean(self, schema: Schema) -> Strategy[bool]:
        return st.booleans()

    def _array(self, schema: Schema) -> Strategy[list[object]]:
        least = schema.get("minItems", 0)
        return st.lists(self.of(schema["items"]), min_size=least, max_size=min(schema.get("maxItems", 3), least + 3))

    def _object(self, schema: Schema) -> Strategy[dict[str, object]]:
        if (values := entries_of(schema)) is not None:
            return st.dictionaries(st.text("abc", min_size=1, max_size=5), self.of(values), max_size=3)
        return self.fields(schema, frozenset(), frozenset())
