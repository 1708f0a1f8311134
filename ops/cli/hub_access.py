"""Connects commands to a running hub as a client: its address, a token, a connection."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from hub.client import HubClient
from hub.client.client import CAPABILITIES
from hub.client.errors import ConnectionRefused, HubUnreachable
from ops.cli.failure import CommandFailed
from ops.cli.identity import token_of
from ops.cli.running_hub import HubAddress, address_of


@dataclass(frozen=True, slots=True)
class Access:
    """The hub that a command connects to, and the token it uses."""

    address: HubAddress
    token: str

    @contextlib.asynccontextmanager
    async def connected(self, *capabilities: str) -> AsyncIterator[HubClient]:
        """Connect a client, with these capabilities in addition to the usual ones.

        Raises:
            CommandFailed: there is no hub at the address, or it refuses the client; the text has the address and where it came
                from.
        """
        client = HubClient(self.address.url, self.token, capabilities=(*CAPABILITIES, *capabilities))
        try:
            await client.connect()
        except (HubUnreachable, ConnectionRefused) as refused:
            raise CommandFailed(f"{refused} (the address is {self.address.origin})") from refused
        try:
            yield client
        finally:
            await client.aclose()


def access_to(url: str, data: Path, token: str, user: str, tenant: str) -> Access:
    """The hub at the address, with the given token or one that is signed for this user."""
    return Access(address_of(url, data), token_of(token, user, tenant, data))
