"""Print a script that makes a shell complete `hub` commands."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Annotated, Any, Final, get_args

import typer

from ops.cli import known_commands, module_of
from ops.cli.options import new_app

app = new_app()


class Shell(StrEnum):
    """The shells with a script."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


SCRIPTS: Final = {
    Shell.BASH: """_hub() {
    local IFS=$'\\n'
    COMPREPLY=($(hub completion bash -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _hub hub""",
    Shell.ZSH: """#compdef hub
_hub() {
    local -a found
    found=(${(f)"$(hub completion zsh -- "${(@)words[2,CURRENT]}" 2>/dev/null)"})
    if (( ${#found} )); then compadd -a found; else _files; fi
}
compdef _hub hub""",
    Shell.FISH: "complete -c hub -a '(hub completion fish -- (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'",
}


@app.command()
def completion(
    shell: Annotated[Shell, typer.Argument(help="The shell that is to run the script.")],
    words: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
) -> None:
    """Print a script that makes a shell complete the commands of `hub`, their options, and the choices of options.

    Example: source <(hub completion bash), in ~/.bashrc
    """
    print("\n".join(candidates(words)) if words else SCRIPTS[shell])


def candidates(words: Sequence[str]) -> list[str]:
    """The words that can stand in place of the last one, which has been typed in part."""
    *before, begun = words
    if not before:
        return [name for name in known_commands() if name.startswith(begun)]
    if before[0] not in known_commands():
        return []
    command: Any = typer.main.get_command(importlib.import_module(module_of(before[0])).app)
    used = before[1:]
    while used and used[0] in getattr(command, "commands", {}):
        command = command.commands[used.pop(0)]
    return [word for word in _of_command(command, used, begun) if word.startswith(begun)]


def _of_command(command: Any, used: Sequence[str], begun: str) -> Iterator[str]:
    options = {name: one for one in command.params for name in getattr(one, "opts", ()) if name.startswith("--")}
    last = options.get(used[-1]) if used else None
    if last is not None and not last.is_flag:
        yield from _choices(last)
    elif begun.startswith("-"):
        yield from sorted({*options, "--help"} - (set(used) - {begun}))
    else:
        yield from getattr(command, "commands", {})
        for one in command.params:
            if one.param_type_name == "argument":
                yield from _choices(one)


def _choices(parameter: Any) -> Iterator[str]:
    """The values of an option or argument that has few."""
    annotation = parameter.type_descriptor.annotation
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, StrEnum):
            yield from (member.value for member in kind)
