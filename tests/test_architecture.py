"""The rules of the house that a machine can hold: who imports whom, what may appear where."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
PACKAGES: Final = ("streams", "projections", "hub", "consumers", "ops")
SOURCES: Final = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
TESTS: Final = sorted((ROOT / "tests").rglob("*.py"))

MAY_IMPORT: Final = {
    "streams": {"streams"},
    "projections": {"projections", "streams"},
    "hub": {"hub", "projections", "streams"},
    "consumers": {"consumers", "projections", "streams"},
    "ops": set(PACKAGES),
}
"""hub and consumers meet in the log, never in an import."""

INNER_ARROWS: Final = {
    "hub": {
        "errors": set(),
        "metrics": {"errors"},
        "rollout": set(),
        "client": set(),
        "client_js": set(),
        "web": set(),
        "logs": {"config", "error_tracking", "log_flood"},
        "log_flood": set(),
        "error_tracking": {"readers"},
        "auth": {"errors"},
        "limits": {"auth", "errors"},
        "readers": {"auth", "limits"},
        "config": {"auth", "limits", "readers"},
        "storage": {"config"},
        "protocol": {"auth", "errors", "limits"},
        "uploads": {"auth", "config", "errors", "limits", "protocol", "storage"},
        "ports": {"auth", "config", "errors", "limits", "metrics", "protocol", "rollout", "sockets", "uploads"},
        "sockets": {"errors"},
        "websocket": {"sockets"},
        "handlers": {"auth", "errors", "ports", "protocol", "sockets", "storage", "uploads"},
        "node": {
            "auth",
            "config",
            "error_tracking",
            "errors",
            "handlers",
            "limits",
            "metrics",
            "ports",
            "protocol",
            "rollout",
            "sockets",
            "uploads",
            "websocket",
        },
        "http": {
            "auth",
            "errors",
            "handlers",
            "limits",
            "metrics",
            "node",
            "protocol",
            "storage",
            "websocket",
        },
        "extensions": {"config", "rollout"},
        "audits": {"config", "errors", "storage"},
        "app": {
            "audits",
            "auth",
            "config",
            "extensions",
            "http",
            "limits",
            "node",
            "ports",
            "sockets",
            "rollout",
            "storage",
            "uploads",
            "websocket",
        },
        "embedding": {"app", "auth", "config", "errors", "limits", "node", "protocol"},
        "__init__": {"embedding"},
        "server": {"app", "config", "http", "logs", "node", "websocket"},
    },
    "consumers": {
        "faults": set(),
        "metrics": set(),
        "tasks": set(),
        "agents": set(),
        "adapters": {"agents"},
        "groups": {"faults", "metrics", "tasks"},
        "runs": {"agents", "faults", "metrics", "tasks"},
        "jobs": {"runs"},
        "handlers": {"agents", "groups", "runs"},
        "worker": {"agents", "faults", "groups", "handlers", "jobs", "metrics", "runs", "tasks"},
    },
}
"""Package → room (a folder or a file of it) → the rooms of the same package it may import. A handler of the hub decides by the
ports alone; the node composes."""

PLACES: Final = {
    "redis": ("streams/", "ops/bench/peers/plain_app.py"),
    "hiredis": ("streams/",),
    "fastapi": ("ops/bench/peers/plain_app.py", "hub/app.py", "hub/http/", "hub/websocket/"),
    "starlette": ("hub/app.py", "hub/embedding.py", "hub/http/", "hub/websocket/"),
    "uvicorn": ("hub/server.py", "hub/http/", "hub/websocket/", "ops/bench/"),
    "arq": ("consumers/jobs.py",),
    "sentry_sdk": ("hub/error_tracking.py",),
    "openfeature": ("hub/rollout.py",),
    "jsonschema_rs": ("streams/events/custom.py",),
    "zstandard": ("streams/archive/segments.py",),
    "rfc3161_client": ("streams/archive/stamps.py",),
    "cryptography": (
        "streams/archive/notes.py",
        "streams/archive/stamp",
        "streams/audit/stamp_check.py",
        "streams/sealing/",
        "hub/auth/",
        "hub/metrics.py",
        "ops/cli/",
    ),
    "boto3": ("hub/storage/", "ops/bench/upload_single.py"),
    "botocore": ("hub/storage/",),
    "jwt": ("hub/auth/", "ops/bench/peers/plain_app.py"),
    "opentelemetry": ("ops/tracing.py", "streams/tracing.py"),
    "typer": ("ops/cli/",),
    "rich": ("ops/cli/",),
    "pyarrow": ("ops/cli/audit_export.py",),
}
"""Third-party package → where it may be imported: a folder, a file, or the beginning of file names."""

IMPURE: Final = frozenset({
    "asyncio", "http.client", "http.server", "httpx", "io", "logging", "multiprocessing", "os", "random", "redis", "secrets",
    "select", "shutil", "signal", "socket", "ssl", "subprocess", "sys", "tempfile", "threading", "time", "urllib.request", "uuid",
    "websockets", "fastapi", "starlette", "uvicorn", "arq", "boto3",
})  # fmt: skip
"""Imports that a module that calls itself pure must not have: I/O, clocks, randomness."""
CLOCK_CALLS: Final = frozenset({"now", "utcnow", "today"})

REDIS_ROOMS: Final = ("streams/redis/", "streams/records/", "ops/torture/", "ops/bench/bare_replay.py")
"""The torture and the bare reader of the bench go past the hub on purpose."""
REDIS_COMMAND: Final = re.compile(
    r"(AUTH|BGSAVE|CLIENT|CONFIG|DEL|EVAL|EVALSHA|EXEC|EXISTS|P?EXPIRE|FLUSHALL|INFO|INCR(BY)?|H(DEL|EXISTS|GET|GETALL|INCRBY|LEN|MGET"
    r"|SCAN|SET|SETNX|VALS)|MGET|MULTI|PING|PUBLISH|SADD|SCAN|SCRIPT|SELECT|SET|SISMEMBER|SMEMBERS|SREM|SUBSCRIBE|TIME|TTL|WAIT|WAITAOF"
    r"|X(ACK|ADD|AUTOCLAIM|CLAIM|DEL|GROUP|INFO|LEN|PENDING|RANGE|READ|READGROUP|REVRANGE|TRIM)"
    r"|Z(ADD|CARD|RANGE|RANGEBYLEX|RANGEBYSCORE|REM|REMRANGEBYSCORE|SCORE))( |$|\r)"
)
"""A command as it begins a text; not GET, which is HTTP's as well."""
REDIS_KEY: Final = re.compile(r"hub:(\{|config|nodes|workers|agents|control|jobs|$)")

SMALL_MODULES: Final = {
    "hub.client.compression": "an extension of `websockets`, apart from the driver that offers it",
    "streams.records.snapshots": "what is kept in Redis is named in records alone",
    "consumers.handlers.settings": "one file a family",
    "hub.handlers.tools": "one file a family",
    "ops.bench.peers.centrifugo": "one file a peer",
    "streams.events.upcast": "where a change of a payload is lifted: a contributor looks for it",
}
"""Modules of under 60 lines that a single module imports, each with the reason why it stands alone. The list only shrinks."""
SMALL_LINES: Final = 60
CLASS: Final = re.compile(r"\s*class (\w+)")
INTERROGATIVE: Final = re.compile(r'"""(What|Whether|Who|Whose|Whom|How|When|Where|Which|Why)\b')
OUTER_CITATION: Final = re.compile(r"\b(?:PROTOCOL|EVENTS|NOTES|DESIGN|STYLE)(?:\.md)?(?:'s)? \d")
"""A numbered section of a document that is not in the repository."""
DOCS_CITATION: Final = re.compile(r"\b(docs/[\w/-]+\.md)(?:#([\w-]+))?")
TEXT_SUFFIXES: Final = frozenset({".conf", ".css", ".html", ".js", ".lua", ".md", ".py", ".toml"})
LINK: Final = re.compile(r"\]\(([\w./-]*\.md)?(?:#([\w-]+))?\)")
COUNTERS: Final = frozenset({"metrics", "_metrics", "report"})
"""Objects of plain counters, which whoever counts moves."""
LIBRARY_OBJECTS: Final = frozenset(
    {
        "hub/app.py",
        "hub/embedding.py",
        "hub/logs.py",
        "hub/client/subscription.py",
        "consumers/jobs.py",
        "ops/bench/peers/plain_app.py",
    }
)
"""Files that set attributes of objects of a library (Starlette, logging, weakref, arq), whose interface that is."""
SETTERS_LEFT: Final = frozenset({
    "consumers/runs/flow.py", "consumers/runs/reaper.py", "consumers/runs/segment.py",
    "streams/redis/wire_set.py", "streams/redis/tail.py",
    "projections/conversation.py", "projections/message_tree.py",
    "ops/importing/irc.py",
})  # fmt: skip
"""Files that set attributes of objects whose class is elsewhere; none may be added."""

FORBIDDEN_NAMES: Final = frozenset({"utils", "util", "helpers", "helper", "base", "manager", "common", "misc"})
TIMED_SLEEP: Final = re.compile(r"\bsleep\(\s*[0-9.]*[1-9]")


def name_of(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


@cache
def lines_of(file: Path) -> tuple[tuple[int, str], ...]:
    """The numbered lines of a file."""
    return tuple(enumerate(file.read_text(encoding="utf-8").splitlines(), 1))


@cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


@cache
def nodes_of(file: Path) -> tuple[ast.AST, ...]:
    """Everything in the file's tree, outermost first. Kept, because the walk takes most of the time of these tests."""
    return tuple(ast.walk(tree_of(file)))


@cache
def imports_of(file: Path) -> tuple[tuple[str, bool], ...]:
    """Every module a file imports, with whether only type checkers see it."""
    return tuple(_imports(file))


def _imports(file: Path) -> Iterator[tuple[str, bool]]:
    typing_only = {
        id(inner)
        for node in nodes_of(file)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in nodes_of(file):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in typing_only) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(file)}:{node.lineno}: imports are absolute here"
            yield node.module or "", id(node) in typing_only


def docstring_of(file: Path) -> str:
    return ast.get_docstring(tree_of(file)) or ""


PURE: Final = [file for file in SOURCES if "Pure." in docstring_of(file)]


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_follow_the_arrows(package: str) -> None:
    """Each package imports only what stands below it."""
    wrong = [
        f"{name_of(file)} imports {module}"
        for file in SOURCES
        if name_of(file).startswith(f"{package}/")
        for module, _ in imports_of(file)
        if module.partition(".")[0] in set(PACKAGES) - MAY_IMPORT[package]
    ]

    assert wrong == []


@pytest.mark.parametrize("package", INNER_ARROWS)
def test_rooms_import_only_the_rooms_below_them(package: str) -> None:
    """The arrows within a package, typing imports included."""
    may_import: Mapping[str, set[str]] = INNER_ARROWS[package]
    found = {
        (room, module.split(".")[1])
        for file in SOURCES
        for room in [name_of(file).removeprefix(f"{package}/").partition("/")[0].removesuffix(".py")]
        for module, _ in imports_of(file)
        if name_of(file).startswith(f"{package}/") and module.startswith(f"{package}.")
    }

    assert {room for room, _ in found} <= may_import.keys()
    assert [(room, other) for room, other in sorted(found) if room != other and other not in may_import[room]] == []


@cache
def modules_imported_by(file: Path) -> frozenset[str]:
    """The modules of ours a file imports, typing imports included: `from hub import errors` names hub.errors."""
    found: set[str] = set()
    for node in nodes_of(file):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names & MODULES.keys() or {node.module or ""}
    return frozenset(found & MODULES.keys())


MODULES: Final = {
    name_of(file).removesuffix(".py").removesuffix("/__init__").replace("/", "."): file for file in SOURCES
}


@pytest.mark.parametrize("package", PACKAGES)
def test_no_modules_import_each_other_in_a_circle(package: str) -> None:
    """Typing imports included: two files that need each other are one thing in two places."""
    left = {
        name: modules_imported_by(file) - {name} for name, file in MODULES.items() if name.partition(".")[0] == package
    }
    while free := [name for name, imported in left.items() if not imported & left.keys()]:
        for name in free:
            del left[name]

    assert sorted(left) == []


def attributes_set_by(file: Path) -> Iterator[str]:
    """Assignments to attributes that no class of the file declares, to another object than `self`."""
    declared: set[str] = set()
    for node in nodes_of(file):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            declared.add(node.target.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_self(node.value):
            declared.add(node.attr)
    for node in nodes_of(file):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and not _is_self(node.value):
            owner = ast.unparse(node.value).rpartition(".")[2]
            if node.attr not in declared and owner not in COUNTERS:
                yield f"{name_of(file)}:{node.lineno} sets {ast.unparse(node)}"


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in {"self", "cls"}


def test_no_object_sets_attributes_of_another() -> None:
    """A state that others set has no owner: it is passed to the constructor, or there is a method."""
    wrong = {name_of(file): found for file in SOURCES if (found := list(attributes_set_by(file)))}

    assert {name: found for name, found in wrong.items() if name not in LIBRARY_OBJECTS | SETTERS_LEFT} == {}


@pytest.mark.parametrize("third_party", PLACES)
def test_third_party_packages_stay_in_their_place(third_party: str) -> None:
    """A package that would be costly to exchange is imported in few files."""
    wrong = [
        name_of(file)
        for file in SOURCES
        for module, _ in imports_of(file)
        if module.partition(".")[0] == third_party and not name_of(file).startswith(PLACES[third_party])
    ]

    assert wrong == []


@cache
def constants_of(file: Path) -> tuple[tuple[int, str], ...]:
    """Every text of a file that is no docstring, f-strings piece by piece."""
    words = {id(node.value) for node in nodes_of(file) if isinstance(node, ast.Expr)}
    return tuple(
        (node.lineno, node.value if isinstance(node.value, str) else node.value.decode("latin-1"))
        for node in nodes_of(file)
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes) and id(node) not in words
    )


@pytest.mark.parametrize("literal", [REDIS_COMMAND, REDIS_KEY], ids=["command", "key"])
def test_redis_is_spoken_in_its_rooms_only(literal: re.Pattern[str]) -> None:
    """Elsewhere a store with named methods is asked: its keys and its scripts are nobody else's business."""
    found = [
        f"{name_of(file)}:{line}: {text[:40]}"
        for file in SOURCES
        for line, text in constants_of(file)
        if literal.match(text)
    ]

    assert any(one.startswith(REDIS_ROOMS) for one in found)
    assert [one for one in found if not one.startswith(REDIS_ROOMS)] == []


def test_the_general_client_is_the_job_queues_alone() -> None:
    """arq takes no other; all else goes through `streams.redis.calls`."""
    wrong = [
        name_of(file)
        for file in SOURCES
        for node in nodes_of(file)
        if isinstance(node, ast.Attribute) and node.attr == "redis" and ast.unparse(node.value).endswith("log")
    ]

    assert wrong == ["consumers/jobs.py"]


def test_pure_modules_do_no_io_and_read_no_clock() -> None:
    """A module that says "Pure." in its docstring can be tested by calling it."""
    wrong = [
        f"{name_of(file)} imports {module}"
        for file in PURE
        for module, is_typing_only in imports_of(file)
        if not is_typing_only and (module in IMPURE or module.partition(".")[0] in IMPURE)
    ]

    assert len(PURE) > 10
    assert wrong == []


def test_pure_modules_ask_no_clock_by_method() -> None:
    """`datetime.now()` hides a clock behind an innocent import."""
    wrong = [
        f"{name_of(file)}:{node.lineno}"
        for file in PURE
        for node in nodes_of(file)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in CLOCK_CALLS
        and ast.unparse(node.func.value) in {"datetime", "date"}
    ]

    assert wrong == []


def test_every_module_says_what_it_is() -> None:
    """The docstring is the first thing a reader sees."""
    assert [name_of(file) for file in SOURCES if not docstring_of(file)] == []


def test_files_are_named_by_what_they_are() -> None:
    """A grab-bag grows for ever."""
    assert [name_of(file) for file in SOURCES + TESTS if file.stem in FORBIDDEN_NAMES] == []


def test_test_files_have_unique_names() -> None:
    """Importlib mode has no packages to tell two of one name apart."""
    names = [file.name for file in TESTS if file.name != "conftest.py"]

    assert sorted(set(names)) == sorted(names)
    assert [name_of(file) for file in TESTS if file.name == "__init__.py"] == []


def test_no_test_waits_for_time() -> None:
    """Tests wait for events; `sleep(0)` yields and is allowed. The harness may poll a foreign process until it answers."""
    wrong = [
        f"{name_of(file)}:{number}"
        for file in TESTS
        if file != Path(__file__) and not name_of(file).startswith("tests/support/")
        for number, line in lines_of(file)
        if TIMED_SLEEP.search(line)
    ]

    assert wrong == []


def test_every_source_file_is_part_of_a_package() -> None:
    """A folder without `__init__.py` would not be installed."""
    assert [name_of(file) for file in SOURCES if not (file.parent / "__init__.py").exists()] == []


def test_nothing_unfinished_is_left_in_the_tree() -> None:
    """An issue, or nothing."""
    marks = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b|NotImplemented" + r"Error")
    wrong = [name_of(file) for file in SOURCES + TESTS if marks.search(file.read_text(encoding="utf-8"))]

    assert wrong == []


def texts() -> Iterator[Path]:
    """Every text of ours that may cite a document."""
    for folder in (*PACKAGES, "tests", "docs"):
        yield from (file for file in sorted((ROOT / folder).rglob("*")) if file.suffix in TEXT_SUFFIXES)
    yield from (file for file in sorted(ROOT.glob("*")) if file.suffix in TEXT_SUFFIXES or file.name == "Makefile")


@cache
def anchors_of(document: Path) -> frozenset[str]:
    """The anchors of a page: its headings, as GitHub names them, and those that are written out."""
    text = document.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    named = (re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings)
    return frozenset(named) | frozenset(re.findall(r'<a (?:id|name)="([\w-]+)"', text))


def test_no_docstring_begins_with_a_question() -> None:
    """It names the thing, or says what it does."""
    found = [
        f"{name_of(file)}:{number}"
        for file in SOURCES + TESTS
        for number, line in lines_of(file)
        if INTERROGATIVE.match(line.lstrip())
    ]

    assert found == []


def test_a_class_name_means_one_thing_in_the_server() -> None:
    """The client is a program of its own and may use the same words."""
    found: dict[str, set[str]] = {}
    for file in SOURCES:
        for number, line in lines_of(file):
            if (named := CLASS.match(line)) and not name_of(file).startswith("hub/client/"):
                found.setdefault(named[1], set()).add(f"{name_of(file)}:{number}")

    assert {name: places for name, places in found.items() if len(places) > 1} == {}


def test_no_document_outside_the_repository_is_cited() -> None:
    """A reader of this repository has nothing else."""
    found = [
        f"{name_of(file)}:{number}"
        for file in texts()
        for number, line in lines_of(file)
        for _ in OUTER_CITATION.findall(line)
    ]

    assert found == []


def test_what_is_cited_in_docs_is_there() -> None:
    """Page and anchor, in comments as the page's path with `#anchor` and in pages as links."""
    wrong = []
    for file in texts():
        text = file.read_text(encoding="utf-8")
        cited = [(ROOT / page, anchor) for page, anchor in DOCS_CITATION.findall(text)]
        if file.suffix == ".md":
            cited += [(file.parent / page if page else file, anchor) for page, anchor in LINK.findall(text)]
        wrong += [
            f"{name_of(file)}: {page.relative_to(ROOT)}#{anchor}"
            for page, anchor in cited
            if not page.exists() or (anchor and anchor not in anchors_of(page))
        ]

    assert wrong == []


def test_what_the_formatter_must_leave_has_a_reason() -> None:
    """A comment on the same line says it, beside `fmt: skip`."""
    found = [
        f"{name_of(file)}:{number}"
        for file in SOURCES + TESTS
        if file != Path(__file__)
        for number, line in lines_of(file)
        if line.endswith("# fmt: skip") and line.count("# ") < 2
    ]

    assert found == []


def test_small_modules_have_more_than_one_importer() -> None:
    """Else they belong to the one that imports them, unless a reason is given."""
    importers = Counter(module for name, file in MODULES.items() for module in modules_imported_by(file) - {name})
    small = {
        module
        for module, file in MODULES.items()
        if file.name != "__init__.py"
        and importers[module] == 1
        and len(file.read_text(encoding="utf-8").splitlines()) < SMALL_LINES
    }

    assert sorted(small - SMALL_MODULES.keys()) == []
