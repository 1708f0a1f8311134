"""Generates the pages of `docs/reference/`: HTTP from OpenAPI, Python from the source text, JavaScript from its types.

`python -m ops.api_reference` writes them; a test compares each with the generated text.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hub.app import create_app
from hub.config import Settings
from hub.http.openapi import openapi_document
from ops.event_reference import kind_of
from streams.events import CATALOGUE

ROOT: Final = Path(__file__).parents[1]
_HEAD: Final = "# {}\n\nGenerated from {} by `python -m ops.api_reference`; do not edit it here.\n"
_CITED: Final = re.compile(r"\bdocs/([\w/.-]+\.md(?:#[\w-]+)?)")
_LINK: Final = r"[\1](../\1)"
_SECTION: Final = re.compile(r"^(Args|Attributes|Raises):$", re.MULTILINE)
_ITEM: Final = re.compile(r"^    ([\w., *|]+): (.*(?:\n {5,}.*)*)", re.MULTILINE)
_EXPORT: Final = re.compile(
    r"^(?:/\*\*(?P<about>(?:(?!\*/).)*)\*/\n)?"
    r"export (?P<code>(?:(?:interface|class) (?P<name>\w+).*?^\}|(?:type|function) (?P<other>\w+).*?;)$(?!\n ))",
    re.MULTILINE | re.DOTALL,
)
Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def pages() -> dict[str, str]:
    """The text of each page, by its path in the repository."""
    python = {
        "docs/reference/python.md": ("Python client", "hub/client"),
        "docs/reference/embedding.md": ("Embedding", "hub"),
        "docs/reference/agents.md": ("Writing agents", "consumers/agents"),
    }
    return {
        "docs/reference/http.md": http_page(),
        "docs/reference/javascript.md": javascript_page(),
        **{path: python_page(title, folder) for path, (title, folder) in python.items()},
    }


def http_page() -> str:
    """Each call with its parameters, body and answers."""
    settings = Settings.from_env({"HUB_JWT_SECRET": "x" * 32, "REDIS_URL": "redis://127.0.0.1:1"})
    document: Any = openapi_document(create_app(settings).openapi(), CATALOGUE)
    lines = [
        _HEAD.format("HTTP", "the routes"),
        "Errors, permissions and limits are in [protocol.md](../protocol.md#http). Tools read `/openapi.json` of a hub.\n",
    ]
    schemas = document["components"]["schemas"]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            lines += _call(path, method, operation, schemas)
    return "\n".join(lines).rstrip("\n") + "\n"


def _call(path: str, method: str, operation: Mapping[str, Any], schemas: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {method.upper()} `{path}`\n"
    yield operation["description"] + "\n"
    yield "Needs a token.\n" if operation.get("security") == [{"token": []}] else ""
    if parameters := operation.get("parameters"):
        yield "| parameter | in | type | | description |\n|---|---|---|---|---|"
        for one in parameters:
            schema = one["schema"]
            note = "required" if one["required"] else ""
            if (default := schema.get("default")) not in {None, ""}:
                note = f"default `{default}`"
            kind = kind_of(schema).removesuffix(" or null")
            yield f"| `{one['name']}` | {one['in']} | {kind} | {note} | {one.get('description', '')} |"
        yield ""
    if body := operation.get("requestBody"):
        schema = body["content"]["application/json"]["schema"]
        yield from _body(schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema)
    codes = [code for code in operation["responses"] if code != "default"]
    yield f"Answers {' or '.join(codes)}, or a problem document.\n"


def _body(schema: Mapping[str, Any]) -> Iterator[str]:
    if types := [option["title"] for option in schema.get("oneOf", ()) if "title" in option]:
        links = (f"[`{name}`](../events.md#{re.sub(r'[^a-z_-]', '', name)})" for name in types)
        yield f'The body is `{{"type", "payload"}}` of one of these events: {", ".join(links)}.\n'
        return
    yield "| field of the body | description |\n|---|---|"
    for name, field in schema["properties"].items():
        yield f"| `{name}` | {field['description']} |"
    yield ""


def python_page(title: str, folder: str) -> str:
    """Each public name of a package, with its docstring."""
    package = ROOT / folder / "__init__.py"
    tree = ast.parse(package.read_text(encoding="utf-8"))
    name = folder.replace("/", ".")
    lines = [_HEAD.format(title, f"the docstrings of `{name}`"), _text(ast.get_docstring(tree) or "") + "\n"]
    for public, module in sorted(_imported(tree).items(), key=lambda pair: (pair[0].isupper(), pair[0].lower())):
        lines += _public(public, ROOT / (module.replace(".", "/") + ".py"))
    return "\n".join(lines).rstrip("\n") + "\n"


def _imported(tree: ast.Module) -> dict[str, str]:
    """The public names of a package, each with the module that defines it."""
    found = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    names = {alias.name: str(node.module) for node in found for alias in node.names if alias.name[0] != "_"}
    public = next(ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign))
    return {name: names[name] for name in public}


def _public(name: str, file: Path) -> Iterator[str]:
    source = file.read_text(encoding="utf-8")
    body = ast.parse(source).body
    yield f"## {name}\n"
    for at, node in enumerate(body):
        if isinstance(node, Definition) and node.name == name:
            yield from _class(node) if isinstance(node, ast.ClassDef) else _function(node)
            return
        if isinstance(node, ast.Assign | ast.AnnAssign) and name in _targets(node):
            yield _code(ast.get_source_segment(source, node) or "")
            yield _text(_said_after(body, at)) + "\n"
            return
    raise LookupError(f"{file} does not define {name}")


def _targets(node: ast.Assign | ast.AnnAssign) -> list[str]:
    return [ast.unparse(target) for target in (node.targets if isinstance(node, ast.Assign) else [node.target])]


def _said_after(body: Sequence[ast.stmt], at: int) -> str:
    """The text below an assignment, if there is one."""
    after = body[at + 1] if at + 1 < len(body) else None
    told = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else ""
    return told if isinstance(told, str) else ""


def _class(node: ast.ClassDef) -> Iterator[str]:
    made = next((one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"), None)
    fields = [one for one in node.body if isinstance(one, ast.AnnAssign)]
    bases = [ast.unparse(base) for base in node.bases]
    if made is not None:
        yield _code(f"class {node.name}({_arguments(made)})")
    elif fields:
        yield _code(f"class {node.name}({', '.join(map(ast.unparse, fields))})")
    else:
        yield _code(f"class {node.name}({', '.join(bases)})")
    yield _text(ast.get_docstring(node) or "") + "\n"
    for one in node.body:
        if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef) and one.name[0] != "_" and not _has(one, "overload"):
            yield from _function(one, f"### {node.name}.{one.name}\n")


def _has(node: ast.FunctionDef | ast.AsyncFunctionDef, decorator: str) -> bool:
    return any(ast.unparse(mark) == decorator for mark in node.decorator_list)


def _function(node: ast.FunctionDef | ast.AsyncFunctionDef, heading: str = "") -> Iterator[str]:
    if heading:
        yield heading
    returned = f" -> {ast.unparse(node.returns)}" if node.returns is not None else ""
    if _has(node, "property"):
        yield _code(f"{node.name}{returned.replace(' -> ', ': ')}")
    else:
        word = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
        yield _code(f"{word} {node.name}({_arguments(node)}){returned}")
    yield _text(ast.get_docstring(node) or "") + "\n"


def _arguments(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    return re.sub(r"^self(, )?", "", ast.unparse(node.args))


def _code(line: str) -> str:
    return f"```python\n{line}\n```\n"


def _text(docstring: str) -> str:
    """A docstring as Markdown: sections become lists, pages become links."""
    first, *rest = _SECTION.split(docstring)
    parts = [first.strip()]
    for name, text in zip(rest[::2], rest[1::2], strict=True):
        items = (f"- `{item}`: {' '.join(said.split())}" for item, said in _ITEM.findall(text))
        parts.append("\n".join([f"**{name}**\n", *items]))
    return _CITED.sub(_LINK, "\n\n".join(parts))


def javascript_page() -> str:
    """Each exported name, with its types."""
    lines = [
        _HEAD.format("JavaScript client", "its types"),
        "Each hub serves it at `/hub.js`; the hooks for React are at `/hub/react.js`.\n",
        "It is a package, too: [`hub/client_js`](../../hub/client_js/README.md).\n",
    ]
    for file, title in (("hub.d.ts", "realtime-hub"), ("hub/react.d.ts", "realtime-hub/react")):
        lines.append(f"## `{title}`\n")
        for found in _EXPORT.finditer((ROOT / "hub/client_js" / file).read_text(encoding="utf-8")):
            about = " ".join(re.sub(r"\n \*", "\n", found["about"] or "").split())
            lines += [f"### {found['name'] or found['other']}\n", f"{_CITED.sub(_LINK, about)}\n"]
            lines.append(f"```ts\n{found['code']}\n```\n")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip("\n") + "\n"


if __name__ == "__main__":
    for path, text in pages().items():
        (ROOT / path).parent.mkdir(exist_ok=True)
        (ROOT / path).write_text(text, encoding="utf-8")
