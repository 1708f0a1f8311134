"""Refuses sockets of pages from origins that are not allowed, in a way that the page can read, and logs it for the operator.

A browser tells its page nothing about an upgrade refused over HTTP, so the page would try again without end.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from hub.errors import HubError
from hub.protocol.replies import error_message
from hub.sockets import SocketReceiver, SocketTransport, Upgrade, UpgradeRefused
from hub.websocket.codec import encode_text

OPEN_MAX: Final = 100
"""Maximum such sockets at once; further ones are refused over HTTP. Each ends within the timeout of the closing handshake."""
LINES_MAX: Final = 20
"""Maximum log lines per minute, one per origin."""
_MINUTE_S: Final = 60.0
_ORIGIN_CHARS_MAX: Final = 200
_TEXT: Final = "pages from this origin may not open sockets here; the operator can list it in HUB_ALLOWED_ORIGINS"

_log: Final = logging.getLogger(__name__)


class ForeignPages:
    """Refuses the foreign pages of one node.

    Args:
        monotonic: a clock in seconds.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._open_count = 0
        self._logged: set[str] = set()
        self._since = float("-inf")

    def refuse(self, origin: bytes) -> SocketReceiver:
        """Logs the refusal, once per origin and minute, and returns the receiver that sends it to the page.

        Raises:
            UpgradeRefused: too many such sockets are open.
        """
        self._note(origin.decode("latin-1")[:_ORIGIN_CHARS_MAX])
        if self._open_count >= OPEN_MAX:
            raise UpgradeRefused(403, _TEXT)
        return _Teller(self._count)

    def _count(self, change: int) -> None:
        self._open_count += change

    def _note(self, origin: str) -> None:
        now = self._monotonic()
        if now - self._since >= _MINUTE_S:
            self._since = now
            self._logged.clear()
        if origin in self._logged or len(self._logged) >= LINES_MAX:
            return
        self._logged.add(origin)
        _log.warning("refused a socket to a page from %s; to allow it, add this origin to HUB_ALLOWED_ORIGINS", origin)


class _Teller:
    """The receiver of a socket of a foreign page: it sends the error and closes."""

    def __init__(self, count: Callable[[int], None]) -> None:
        self._count = count

    def opened(self, transport: SocketTransport, upgrade: Upgrade) -> None:  # noqa: ARG002 - the port's signature
        """Sends the error and closes."""
        self._count(1)
        transport.write(encode_text(error_message(HubError(4003, _TEXT, closes=True))))
        transport.close(4003, "permission_denied")

    def text(self, data: bytes) -> None:
        """Ignores the message."""

    def binary(self, data: bytes) -> None:
        """Ignores the message."""

    def heard(self) -> None:
        """Does nothing."""

    def writable(self, is_writable: bool) -> None:
        """Does nothing."""

    def draining(self) -> None:
        """Does nothing: the socket is closing already."""

    def closed(self, code: int) -> None:  # noqa: ARG002 - the port's signature
        """Stops counting the socket."""
        self._count(-1)
