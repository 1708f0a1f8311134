"""Error tracking: a port, and Sentry behind it (the extra `sentry`).

What is reported has passed the limits of the log: one report for each class of errors and minute. Secrets are removed from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import blake2b
from importlib import import_module
from importlib.metadata import version
from traceback import extract_tb
from typing import Any, Final, NamedTuple, Protocol

from hub.readers import SettingProblem, SettingRefused

CLOSE_S: Final = 2.0
"""Seconds that the end of the process waits for reports on their way."""
TAGS: Final = ("node", "worker", "tenant", "user", "code", "variant", "type", "handler")
"""The fields that Sentry indexes; the others are shown with the report."""
_ID_BYTES: Final = 6
_NEEDS: Final = "unset, or sentry-sdk installed: pip install 'realtime-hub[sentry]'"
_ADDRESS: Final = "the address of a Sentry project, such as https://key@sentry.example/1"


class Fault(NamedTuple):
    """An error to report.

    Attributes:
        fields: the fields of its log line.
        error: the exception, if there is one.
        class_: the class of errors that it belongs to, the same for equal faults.
    """

    message: str
    level: str
    logger: str
    fields: Mapping[str, Any]
    error: BaseException | None
    class_: tuple[str, ...]


class ErrorTracker(Protocol):
    """Takes reports of errors. It must neither block nor raise."""

    def capture(self, fault: Fault) -> None:
        """Reports an error."""
        ...

    def close(self) -> None:
        """Sends what is on its way, for a bounded time."""
        ...


def fault_id(error: BaseException) -> str:
    """Returns the id of a fault: equal for exceptions of one type that are raised at the same line."""
    place = "".join(f"{frame.filename}:{frame.lineno}" for frame in extract_tb(error.__traceback__)[-1:])
    return blake2b(f"{type(error).__qualname__};{place}".encode(), digest_size=_ID_BYTES).hexdigest()


class SentryTracker:
    """Reports to Sentry, or to a service that speaks its protocol, over a client of its own.

    No integration is set up and no variable of a frame is sent, so that nothing but the fault leaves the process.

    Args:
        dsn: the address of the project.
        redacted: removes secrets from a report.

    Raises:
        SettingRefused: sentry-sdk is not installed, or the address is none.
    """

    def __init__(self, dsn: str, redacted: Callable[[Mapping[str, Any]], dict[str, Any]]) -> None:
        try:
            sdk: Any = import_module("sentry_sdk")
            utils: Any = import_module("sentry_sdk.utils")
        except ImportError as missing:
            raise SettingRefused((SettingProblem("HUB_SENTRY_DSN", _NEEDS),)) from missing
        try:
            self._client = sdk.Client(
                dsn=dsn,
                default_integrations=False,
                auto_enabling_integrations=False,
                include_local_variables=False,
                max_breadcrumbs=0,
                release=f"realtime-hub@{version('realtime-hub')}",  # by default the SDK asks git
                before_send=lambda event, _hint: redacted(event),
            )
        except ValueError:
            raise SettingRefused((SettingProblem("HUB_SENTRY_DSN", _ADDRESS),)) from None
        self._scope, self._event_of = sdk.Scope(), utils.event_from_exception

    def capture(self, fault: Fault) -> None:
        """Reports an error; a thread of the SDK sends it."""
        event: dict[str, Any] = {}
        hint: dict[str, Any] = {}
        if fault.error is not None:
            exc_info = (type(fault.error), fault.error, fault.error.__traceback__)
            event, hint = self._event_of(exc_info, client_options=self._client.options)
        fields = dict(fault.fields)
        event |= {
            "level": fault.level,
            "logger": fault.logger,
            "logentry": {"formatted": fault.message},
            "fingerprint": list(fault.class_),
            "tags": {name: str(fields.pop(name)) for name in TAGS if name in fields},
            "extra": fields,
        }
        self._client.capture_event(event, hint=hint, scope=self._scope)

    def close(self) -> None:
        """Waits until the reports on their way were sent, at most `CLOSE_S`."""
        self._client.close(timeout=CLOSE_S)
