"""Sample values for a JSON Schema of the catalogue: the smallest and the largest. Pure.

Only the parts of JSON Schema that the catalogue's models produce are supported; anything else is an error, so that a new kind
of constraint cannot remain untested.
"""

from __future__ import annotations

Schema = dict[str, object]
FREE_JSON = {"a": [1, True, None, "é"]}
FILLER = "x"


class Samples:
    """Makes sample values within one root schema, with texts of at most `length_max` characters."""

    def __init__(self, root: Schema, length_max: int = 2**20) -> None:
        self.root = root
        self.length_max = length_max

    def resolve(self, schema: Schema) -> Schema:
        """The schema itself, or the target of its reference."""
        if "$ref" not in schema:
            return schema
        return self.root["$defs"][str(schema["$ref"]).removeprefix("#/$defs/")]

    def branches(self, schema: Schema) -> list[Schema]:
        """The alternatives of a schema, without null; only the schema itself if it has none."""
        schema = self.resolve(schema)
        options = schema.get("oneOf") or schema.get("anyOf")
        if not options:
            return [schema]
        return [self.resolve(option) for option in options if option.get("type") != "null"]

    def allows_null(self, schema: Schema) -> bool:
        """True if the schema allows null."""
        schema = self.resolve(schema)
        if "anyOf" in schema:
            return {"type": "null"} in schema["anyOf"]
        return is_free(schema) and schema.get("not") != {"type": "null"}

    def sample(self, schema: Schema, *, is_full: bool) -> object:
        """A valid value: the smallest, or, if `is_full`, one with every optional field and every length at its limit."""
        schema = self.branches(schema)[0]
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return schema["enum"][-1 if is_full else 0]
        if is_free(schema):
            return FREE_JSON if is_full else "x"
        return getattr(self, f"_{schema['type']}")(schema, is_full)

    def _string(self, schema: Schema, is_full: bool) -> str:
        if "examples" in schema:
            return schema["examples"][0]
        if "contentEncoding" in schema:
            return "AAEC" if is_full else ""
        if is_full:
            return FILLER * min(schema.get("maxLength", 100), self.length_max)
        return FILLER * max(1, schema.get("minLength", 0))

    def _integer(self, schema: Schema, is_full: bool) -> int:
        return schema.get("maximum", 2**63 - 1) if is_full else schema.get("minimum", 0)

    def _number(self, schema: Schema, is_full: bool) -> float:
        return schema.get("maximum", 1.5) if is_full else schema.get("minimum", 0)

    def _boolean(self, schema: Schema, is_full: bool) -> bool:
        return is_full

    def _array(self, schema: Schema, is_full: bool) -> list[object]:
        """An array with one item of each alternative, or the minimum number of items."""
        if not is_full:
            return [self.sample(schema["items"], is_full=False)] * schema.get("minItems", 0)
        return [self.sample(branch, is_full=True) for branch in self.branches(schema["items"])]

    def _object(self, schema: Schema, is_full: bool) -> dict[str, object]:
        required = schema.get("required", [])
        fields = {
            name: self.sample(field, is_full=is_full)
            for name, field in schema.get("properties", {}).items()
            if is_full or name in required
        }
        if is_full and (values := entries_of(schema)):
            fields["conversation:42"] = self.sample(values, is_full=True)
        return fields


def entries_of(schema: Schema) -> Schema | None:
    """The schema of the values of a dict with arbitrary keys; None if all fields are declared."""
    for values in schema.get("patternProperties", {}).values():
        return values
    values = schema.get("additionalProperties")
    return values if isinstance(values, dict) else None


def is_free(schema: Schema) -> bool:
    """True if the schema allows any JSON, within a size limit."""
    return not {"type", "const", "enum", "$ref", "anyOf", "oneOf"} & schema.keys()
