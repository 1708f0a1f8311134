"""Sockets of pages that may not open one: the page is told, in a way that browsers hand on, and the operator by the log.

A browser tells its page nothing of an upgrade that is refused over HTTP, so a page would try for ever.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from hub.errors import HubError
from hub.ports import SocketReceiver, SocketTransport, Upgrade, UpgradeRefused
from hub.protocol.replies import error_message
from hub.websocket.codec import encode_text

OPEN_MAX: Final = 100
"""Sockets at once that are being told; a further one is refused over HTTP. Each is gone within the timeout of a close."""
LINES_MAX: Final = 20
"""Lines of the log a minute, each with another origin."""
_MINUTE_S: Final = 60.0
_ORIGIN_CHARS_MAX: Final = 200
_TEXT: Final = "pages from this origin may not open sockets here; the operator can list it in HUB_ALLOWED_ORIGINS"

_log: Final = logging.getLogger(__name__)


class ForeignPages:
    """Those of one node.

    Args:
        monotonic: in seconds.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._open_count = 0
        self._logged: set[str] = set()
        self._since = float("-inf")

    def refuse(self, origin: bytes) -> SocketReceiver:
        """Log the refusal, once for an origin and minute, and make the receiver that tells the page.

        Raises:
            UpgradeRefused: too many are being told.
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
        _log.warning("a page from %s was refused a socket: to allow it, add its origin to HUB_ALLOWED_ORIGINS", origin)


class _Teller:
    """The receiver of one such socket."""

    def __init__(self, count: Callable[[int], None]) -> None:
        self._count = count

    def opened(self, transport: SocketTransport, upgrade: Upgrade) -> None:  # noqa: ARG002 - the port's signature
        """Tell and close."""
        self._count(1)
        transport.write(encode_text(error_message(HubError(4003, _TEXT, closes=True))))
        transport.close(4003, "permission_denied")

    def text(self, data: bytes) -> None:
        """Take no notice."""

    def binary(self, data: bytes) -> None:
        """Take no notice."""

    def heard(self) -> None:
        """Take no notice."""

    def writable(self, is_writable: bool) -> None:
        """Take no notice."""

    def draining(self) -> None:
        """It is closing already."""

    def closed(self, code: int) -> None:  # noqa: ARG002 - the port's signature
        """The socket is gone."""
        self._count(-1)
