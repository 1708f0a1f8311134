"""The channel an operator named, checked before anything is connected to."""

from __future__ import annotations

from ops.cli.failure import EXIT_USAGE, CommandFailed
from streams.channel import Channel, parse_channel
from streams.errors import MalformedChannel


def channel_of(tenant: str, wire: str) -> Channel:
    """The channel an operator named.

    Raises:
        CommandFailed: it is none; the line says what a channel is.
    """
    try:
        return parse_channel(tenant, wire)
    except MalformedChannel as refused:
        raise CommandFailed(str(refused), EXIT_USAGE) from refused
