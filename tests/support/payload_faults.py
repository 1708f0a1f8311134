"""Generates every way to make one field of a valid payload invalid, from its JSON Schema. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from support.samples import FILLER, Samples, Schema, entries_of, is_free

Fault = tuple[str, object]
"""A fault as `path:fault`, and the value with only that fault."""
_NO_NUL = r"^[^\x00]*$"
UNKNOWN_FIELD = "surprise"
_OTHER_TYPE = {"string": 7, "integer": "7", "number": "7", "boolean": "true", "array": {}, "object": []}
_LENGTHS = {"string": ("minLength", "maxLength"), "array": ("minItems", "maxItems")}


class Faults:
    """Generates the faults of values of one root schema."""

    def __init__(self, root: Schema) -> None:
        self.root = root
        self.samples = Samples(root)

    def of_payload(self, payload: dict[str, object]) -> Iterator[Fault]:
        """The faults of a payload; each result has exactly one."""
        yield from self._inside(self.root, payload)

    def _of(self, schema: Schema, value: object) -> Iterator[Fault]:
        """The faults of one value: null, another type, beyond a limit, and those of nested values."""
        if not self.samples.allows_null(schema):
            yield "null", None
        branch = self._branch_of(schema, value)
        if is_free(branch):
            yield from _free_faults(branch)
            return
        yield "type", _other_type(branch)
        if "enum" in branch or "const" in branch:
            yield "value", "no-such-value"
        yield from self._limits(branch, value)
        yield from self._inside(branch, value)

    def _branch_of(self, schema: Schema, value: object) -> Schema:
        """The alternative of the schema that the value belongs to."""
        branches = self.samples.branches(schema)
        return next((branch for branch in branches if _fits(branch.get("properties", {}), value)), branches[0])

    def _limits(self, branch: Schema, value: object) -> Iterator[Fault]:
        least, most = _LENGTHS.get(str(branch.get("type")), (None, None))
        if branch.get(least, 0):
            yield "too short", value[: branch[least] - 1]
        if most in branch:
            yield "too long", _stretched(value, branch[most] + 1)
        if "maximum" in branch:
            yield "too large", _beyond(branch["maximum"])
        if "minimum" in branch:
            yield "too small", branch["minimum"] - 1
        if "maxProperties" in branch:
            entry = next(iter(value.values()))
            yield "too many", {f"k{n}": entry for n in range(branch["maxProperties"] + 1)}
            yield "key too long", {"k" * (branch["propertyNames"]["maxLength"] + 1): entry}
            yield "key with a lone surrogate", {"\ud800": entry}
        if isinstance(value, str) and "enum" not in branch and "const" not in branch:
            yield from _text_faults(branch, value)

    def _inside(self, branch: Schema, value: object) -> Iterator[Fault]:
        """Change one field or item at a time; for an object also omit fields and add an unknown one."""
        if isinstance(value, list):
            for index, item in enumerate(value):
                for label, changed in self._of(_item_schema(self, branch, index), item):
                    yield f"{index}.{label}", [*value[:index], changed, *value[index + 1 :]]
        if isinstance(value, dict):
            yield from self._fields(branch, value)

    def _fields(self, branch: Schema, value: dict[str, object]) -> Iterator[Fault]:
        for name, inner in value.items():
            schema = branch.get("properties", {}).get(name, entries_of(branch))
            for label, changed in self._of(schema, inner):
                yield f"{name}{'.' if ':' in label or '.' in label else ':'}{label}", {**value, name: changed}
        for name in branch.get("required", []):
            yield f"{name}:missing", {key: inner for key, inner in value.items() if key != name}
        if branch.get("additionalProperties") is False:
            yield f"{UNKNOWN_FIELD}:unknown", {**value, UNKNOWN_FIELD: 1}


def _item_schema(faults: Faults, branch: Schema, index: int) -> Schema:
    """The alternative that a full sample has at this index."""
    branches = faults.samples.branches(branch["items"])
    return branches[index] if index < len(branches) > 1 else branch["items"]


def _fits(fields: Schema, value: object) -> bool:
    """True if the value belongs to the alternative with these fields, according to its tag."""
    tags = [(name, fields[name]) for name in ("type", "op") if name in fields]
    return isinstance(value, dict) and all(value.get(name) in tag.get("enum", [tag.get("const")]) for name, tag in tags)


def _other_type(branch: Schema) -> object:
    return _OTHER_TYPE[str(branch.get("type", "string"))]


def _stretched(value: object, length: int) -> object:
    """The value extended to this length by repeating its contents."""
    if isinstance(value, list):
        return (value or [FILLER]) * length if len(value) < 2 else (value * length)[:length]
    return (value + FILLER * length)[:length] if isinstance(value, str) else value


def _beyond(maximum: float) -> object:
    """A value above the maximum; above the largest float there is none, so a string is returned."""
    return maximum + 1 if maximum + 1 > maximum else "inf"


def _text_faults(branch: Schema, value: str) -> Iterator[Fault]:
    """Faults of a string: every text refuses a lone surrogate, and all but names for look-ups (channels, tokens) refuse NUL."""
    if "pattern" in branch:
        yield "NUL", "\0" + value[1:]
    if branch.get("pattern", _NO_NUL) != _NO_NUL:
        yield "grammar", "\n" + value[1:]
    yield "lone surrogate", "\ud800" + value[1:]
    if "contentEncoding" in branch:
        yield "not base64", "AAA"
        yield "too many bytes", "AAAA" * (branch["x-max-bytes"] // 3 + 1)
    elif "x-max-bytes" in branch:
        yield "too many bytes", "é" * (branch["x-max-bytes"] // 2 + 1)


def _free_faults(branch: Schema) -> Iterator[Fault]:
    """Values that even free JSON must not contain."""
    nested: object = 1
    for _ in range(40):
        nested = [nested]
    if "x-max-bytes" in branch:
        yield "too deep", nested
        yield "not 64 bits", [2**63]
        yield "too many bytes", ["x" * branch["x-max-bytes"]]
