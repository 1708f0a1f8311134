"""What a command says when it cannot go on, and the exit codes."""

from __future__ import annotations

from typing import Final

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130
"""128 + SIGINT, as shells report it."""


class CommandFailed(Exception):
    """A command cannot go on; the text is the one line the operator reads."""

    def __init__(self, text: str, code: int = EXIT_FAILED) -> None:
        super().__init__(text)
        self.code = code


def one_line(error: Exception) -> tuple[str, int] | None:
    """The line and exit code of an error that was foreseen; None for one that was not, whose traceback is needed."""
    import typer

    if isinstance(error, CommandFailed):
        return str(error), error.code
    if isinstance(error, typer.TyperException):
        return error.format_message().rstrip("."), error.exit_code
    if isinstance(error, typer.Abort):
        return "aborted", EXIT_FAILED
    settings, foreseen = _settings(), _foreseen()
    if not isinstance(error, foreseen):
        return None
    return str(error) or type(error).__name__, EXIT_USAGE if isinstance(error, settings) else EXIT_FAILED


def _settings() -> tuple[type[Exception], ...]:
    """What is wrong with the environment is wrong input, like a wrong option."""
    from hub.setting import SettingRefused
    from streams.errors import ConfigurationRefused

    return (SettingRefused, ConfigurationRefused)


def _foreseen() -> tuple[type[Exception], ...]:
    """Imported only when something went wrong."""
    from hub.client.errors import ClientError
    from hub.errors import HubError
    from streams.errors import StreamsError

    return (*_settings(), StreamsError, ClientError, HubError, OSError)
