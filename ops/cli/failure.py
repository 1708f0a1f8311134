"""Errors that end a command, as one line, and the exit codes."""

from __future__ import annotations

from typing import Final

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_UNANSWERED: Final = 3
"""Exit code when an agent asks a question and input is not a terminal."""
EXIT_INTERRUPTED: Final = 130
"""128 + SIGINT, the exit code that shells use."""


class CommandFailed(Exception):
    """Ends a command; the text is the line shown to the operator."""

    def __init__(self, text: str, code: int = EXIT_FAILED) -> None:
        super().__init__(text)
        self.code = code


def one_line(error: Exception) -> tuple[str, int] | None:
    """The line and exit code for an expected error; None for any other, which needs a traceback."""
    import typer

    if isinstance(error, CommandFailed):
        return str(error), error.code
    if isinstance(error, typer.TyperException):
        return error.format_message().rstrip("."), error.exit_code
    if isinstance(error, typer.Abort):
        return "aborted", EXIT_FAILED
    settings, expected = _settings(), _expected()
    if not isinstance(error, expected):
        return None
    return str(error) or _without_text(error), EXIT_USAGE if isinstance(error, settings) else EXIT_FAILED


def _without_text(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it timed out; retry, or check the load of this machine"
    return f"it failed with {type(error).__name__} and no message; please report this"


def _settings() -> tuple[type[Exception], ...]:
    """Errors of the environment, which count as wrong input like a wrong option."""
    from hub.readers import SettingRefused
    from streams.errors import ConfigurationRefused

    return (SettingRefused, ConfigurationRefused)


def _expected() -> tuple[type[Exception], ...]:
    """The errors that a command expects; their modules are imported only when something has failed."""
    from hub.client.errors import ClientError
    from hub.errors import HubError
    from streams.errors import StreamsError

    return (*_settings(), StreamsError, ClientError, HubError, OSError)
