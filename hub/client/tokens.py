"""The token a client shows: a text, or a function that gets a fresh one."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import TypeAlias

Token: TypeAlias = str | Callable[[], str | Awaitable[str]]
"""A JWT, or a function (plain or async) that returns one. Only with a function can an expired token be replaced."""


class TokenSource:
    """Keeps the present token, so that reconnecting does not ask the issuer each time."""

    def __init__(self, token: Token) -> None:
        self._token = token
        self._present = token if isinstance(token, str) else None
        self.renewable = not isinstance(token, str)

    async def current(self) -> str:
        """The token to show now."""
        return self._present if self._present is not None else await self.renew()

    async def renew(self) -> str:
        """A fresh token; the same one when it is only a text."""
        token = self._token
        if isinstance(token, str):
            return token
        made = token()
        self._present = await made if inspect.isawaitable(made) else made
        return self._present

    def expire(self) -> None:
        """The present token was refused as expired: the next `current` asks for a fresh one."""
        if self.renewable:
            self._present = None
