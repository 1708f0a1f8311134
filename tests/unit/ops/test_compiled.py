"""The modules that a wheel holds compiled are loaded so, and the source tree's are not."""

import ast
import importlib
import os
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from ops.compiled import MODULES, build_kind, compiled_modules

IS_WHEEL = os.environ.get("HUB_COMPILED") == "1"
"""Set by `make test-compiled`, where the tests run against a built wheel."""


@pytest.mark.parametrize("name", MODULES)
def test_a_listed_module_is_compiled_in_a_wheel_and_python_in_the_tree(name: str) -> None:
    file = importlib.import_module(name).__file__ or ""

    assert file.endswith(tuple(EXTENSION_SUFFIXES)) == IS_WHEEL
    assert (name in compiled_modules()) == IS_WHEEL


def test_the_kind_of_the_build_is_told() -> None:
    assert build_kind() == ("compiled" if IS_WHEEL else "pure Python")


def test_every_listed_module_has_its_source_beside_it() -> None:
    root = Path(importlib.import_module("ops.compiled").__file__ or "").parents[1]

    assert [name for name in MODULES if not (root / f"{name.replace('.', '/')}.py").exists()] == []


def test_no_class_that_stays_python_is_derived_from_a_compiled_one() -> None:
    """Compiled classes refuse it when one is made; exceptions do not."""
    root = Path(importlib.import_module("ops.compiled").__file__ or "").parents[1]
    sources = {name: root / f"{name.replace('.', '/')}.py" for name in MODULES}
    compiled = {
        node.name
        for source in sources.values()
        for node in ast.parse(source.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and not {"Exception"} & {ast.unparse(base) for base in node.bases}
    }
    others = [
        path
        for folder in ("streams", "hub", "consumers", "projections", "ops")
        for path in (root / folder).rglob("*.py")
        if path not in sources.values()
    ]
    derived = [
        f"{path.relative_to(root)}: {node.name}"
        for path in others
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and {ast.unparse(base) for base in node.bases} & compiled
    ]

    assert derived == []


def test_no_attribute_is_read_after_it_was_set_to_none_in_the_same_function() -> None:
    """The type checker takes it for None to the end of the function, whatever was called since; compiled, reading it raises."""
    root = Path(importlib.import_module("ops.compiled").__file__ or "").parents[1]
    found = [
        f"{name}: {function.name}: {read}"
        for name in MODULES
        for function in ast.walk(ast.parse((root / f"{name.replace('.', '/')}.py").read_text(encoding="utf-8")))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for read in _read_after_none(function)
    ]

    assert found == []


def test_what_is_read_after_it_was_set_to_none_is_found() -> None:
    """Alone, in a tuple, and not where it was only read before."""
    code = "def f(self):\n a, self.x = self.x, None\n self.y = None\n g()\n return self.x, self.y, self.z"

    assert _read_after_none(ast.parse(code).body[0]) == ["self.x", "self.y"]


def _read_after_none(function: ast.AST) -> list[str]:
    nodes = list(ast.walk(function))
    pairs = [(target, node.value) for node in nodes if isinstance(node, ast.Assign) for target in node.targets]
    for target, value in list(pairs):
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            pairs += zip(target.elts, value.elts, strict=True)
    emptied = {
        ast.unparse(target): target.lineno
        for target, value in pairs
        if isinstance(target, ast.Attribute) and isinstance(value, ast.Constant) and value.value is None
    }
    return [
        text
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
        if (text := ast.unparse(node)) in emptied and node.lineno > emptied[text]
    ]
