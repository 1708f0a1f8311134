"""The `hub` command: imports the module of the requested command, runs it, and turns errors into one line and an exit code.

Every file in `ops/cli/commands` is a command of the same name with a Typer `app`; the first line of its docstring is its help.
To add a command, add a file. Only the requested command is imported, so that help is fast.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from ops.cli.failure import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, CommandFailed, one_line

STARTED: Final = time.monotonic()
"""Start time of this process, taken before any large import."""
_FOLDER: Final = Path(__file__).parent / "commands"
_OUR_PACKAGES: Final = frozenset({"hub", "streams", "projections", "consumers", "ops"})
_SUFFIX: Final = "_FILE"
_PREFIXES: Final = ("HUB_", "REDIS_", "S3_", "WEBSOCKET_")


def main(argv: Sequence[str] | None = None) -> None:
    """Run `hub ARGV` and exit: 0 done, 1 failed, 2 wrong input (an option, an argument, a setting), 130 interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    sys.exit(_guarded(arguments))


def known_commands() -> Mapping[str, str]:
    """The commands with their one-line help, read from the first lines of their files without importing them."""
    return {
        file.stem.rstrip("_"): _first_line(file)  # `import_.py` is the command `import`
        for file in sorted(_FOLDER.glob("*.py"))
        if file.stem != "__init__"
    }


def module_of(name: str) -> str:
    """The module of a command."""
    return f"ops.cli.commands.{name}_" if (_FOLDER / f"{name}_.py").exists() else f"ops.cli.commands.{name}"


def _first_line(file: Path) -> str:
    with file.open(encoding="utf-8") as lines:
        return lines.readline().strip().removeprefix('"""').removesuffix('"""')


def _guarded(arguments: list[str]) -> int:
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output has closed the pipe, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except Exception as error:
        known = one_line(error)
        if known is None:
            raise
        text, code = known
        print(f"hub {' '.join(arguments[:1])}: {text}".replace("\n", "; "), file=sys.stderr)
        return code


def _run(arguments: list[str]) -> int:
    known = known_commands()
    if not arguments or arguments[0] in {"-h", "--help", "help"}:
        print(_help(known))
        return 0 if arguments else EXIT_USAGE
    if arguments[0] == "--version":
        from importlib.metadata import version

        from ops.compiled import build_kind

        print(f"{version('realtime-hub')} ({build_kind()})")
        return 0
    os.environ.update(read_secret_files(os.environ))
    name, *rest = arguments
    if name not in known:
        print(_unknown(name, known), file=sys.stderr)
        return EXIT_USAGE
    return _invoke(name, rest)


def _invoke(name: str, rest: list[str]) -> int:
    try:
        import typer.main

        module = importlib.import_module(module_of(name))
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.partition(".")[0] in _OUR_PACKAGES:
            raise
        print(f"hub {name}: needs {missing.name}: pip install 'realtime-hub[server]'", file=sys.stderr)
        return EXIT_FAILED
    command = typer.main.get_command(module.app)
    words = ["hub", name]
    while "--help" in rest and rest[0] in (inner := getattr(command, "commands", {})):
        command = inner[rest[0]]  # reached through the group, its help would take twice as long: pydantic is imported
        words.append(rest.pop(0))
    code = command.main(args=rest, prog_name=" ".join(words), standalone_mode=False)
    return code if isinstance(code, int) else 0


def _help(known: Mapping[str, str]) -> str:
    width = max(map(len, known))
    rows = (f"  {name:<{width}}  {text}" for name, text in known.items())
    return "\n".join(("usage: hub COMMAND [OPTIONS]", "", *rows, "", "hub COMMAND --help shows the options."))


def _unknown(name: str, known: Mapping[str, str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean `hub {near[0]}`?" if near else "`hub --help` lists them"
    return f"hub: no such command: {hint}"


# Settings in files, as containers are given secrets: HUB_JWT_SECRET_FILE names the file of HUB_JWT_SECRET.


def read_secret_files(env: Mapping[str, str]) -> dict[str, str]:
    """The settings that are given as files, each with the content of its file without white space at the ends.

    Raises:
        CommandFailed: a file cannot be read, or its setting is given directly as well.
    """
    return {name: _content(name, path, env) for name, path in _named(env)}


def _named(env: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    given = {name: path for name, path in env.items() if name.endswith(_SUFFIX) and name.startswith(_PREFIXES) and path}
    if given:
        from hub.config import declarations  # takes long, and hardly any command is given a file

        settings = {declared.env for declared in declarations().values()}
        for name, path in given.items():
            if (setting := name.removesuffix(_SUFFIX)) in settings:
                yield setting, path


def _content(setting: str, path: str, env: Mapping[str, str]) -> str:
    if env.get(setting, "").strip():
        raise CommandFailed(f"set {setting} or {setting}{_SUFFIX}, not both", EXIT_USAGE)
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandFailed(f"{setting}{_SUFFIX}: {path} cannot be read: {error}", EXIT_USAGE) from error
