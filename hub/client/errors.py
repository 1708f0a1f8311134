"""The exceptions that the client raises. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from hub.client.items import Gap, Payload


class Retry(StrEnum):
    """The hub's advice on what the client should do next (docs/protocol.md#errors)."""

    NO = "no"
    REFRESH = "refresh"
    BACKOFF = "backoff"
    NOW = "now"


CLOSE_ADVICE: Final = MappingProxyType(
    {
        4001: Retry.NO,
        4002: Retry.REFRESH,
        4003: Retry.NO,
        4004: Retry.BACKOFF,
        4005: Retry.NO,
        4008: Retry.BACKOFF,
        4010: Retry.BACKOFF,
        4012: Retry.NOW,
        4014: Retry.NO,
        4016: Retry.NOW,
        4019: Retry.NO,
        4020: Retry.NO,
        4023: Retry.NO,
        4024: Retry.BACKOFF,
    }
)
"""Close code → advice, for sockets that closed without a `connection.error`. After other codes: reconnect with back-off."""


class ClientError(Exception):
    """The base of every error the client raises on purpose."""


class HubError(ClientError):
    """The hub refused something; the attributes are those of `connection.error`.

    Attributes:
        code: the error's code (docs/protocol.md#errors); `name` is its name.
        retry: the hub's advice. The client has already followed it by the time this is raised.
        retry_after_ms: milliseconds to wait before another attempt, where the hub gave them.
        details: a tuple of `{"field", "problem"}`.
        channel: the channel concerned, if any.
    """

    def __init__(self, payload: Payload, channel: str | None = None) -> None:
        self.code: int = payload.get("code", 4030)
        self.name: str = payload.get("name", "internal_error")
        self.message: str = payload.get("message", "the hub gave no reason")
        self.retry = Retry(payload.get("retry", Retry.BACKOFF))
        self.retry_after_ms: int | None = payload.get("retry_after_ms")
        self.details: tuple[Payload, ...] = tuple(payload.get("details", ()))
        self.channel = channel
        super().__init__(f"{self.code} {self.name}: {self.message}")


@dataclass(frozen=True, slots=True)
class Wait:
    """A refused command is waiting, because of the user's rate limit or because the hub cannot store it now.

    The client sends it again by itself.

    Attributes:
        command_id: the refused command; later commands of the channel wait behind it.
        channel: the command's channel, if it has one.
        wait_s: seconds until it is sent again.
        error: the hub's refusal: 4004 `rate_limited`, 4013 `unavailable` or similar.
    """

    command_id: str
    channel: str | None
    wait_s: float
    error: HubError

    def __str__(self) -> str:
        place = f" in {self.channel}" if self.channel else ""
        return f"commands{place} wait {self.wait_s:.1f} s and are then sent again automatically ({self.error})"


class ConnectionRefused(HubError):
    """The hub refuses this client, and reconnecting would not help. Every iterator and command ends with this error."""


class HubUnreachable(ClientError):
    """No connection was made within `connect_timeout_s`. The text gives the reason of the last attempt."""


class HubClosed(ClientError):
    """The client was closed before a command was answered; it may have been stored. The same id may be sent again."""


class OutboxFull(ClientError):
    """`max_pending` commands are unanswered. Wait for answers before sending more."""


class ChannelClosed(ClientError):
    """The hub ended this subscription.

    Attributes:
        reason: `permission_denied` or `deleted`.
    """

    def __init__(self, channel: str, reason: str) -> None:
        super().__init__(f"the hub ended the subscription of {channel}: {reason}")
        self.channel = channel
        self.reason = reason


class StreamBroken(ClientError):
    """The hub left out events without a gap, repeatedly after the same cursor. Nothing beyond the cursor was delivered."""

    def __init__(self, channel: str, expected_seq: int, got_seq: int) -> None:
        super().__init__(
            f"{channel}: seq {expected_seq} never arrived, the hub sent {got_seq} instead; report this hub"
        )
        self.channel = channel
        self.expected_seq = expected_seq
        self.got_seq = got_seq


class GapError(ClientError):
    """Events cannot be delivered to this reader any more; raised in their place. The iterator ends here.

    Continue with `subscribe(channel, after=error.head)` and `error.state`, or use `on_gap="report"`.
    """

    def __init__(self, gap: Gap) -> None:
        missing = f"{gap.from_seq or '?'} to {gap.to_seq or '?'}"
        super().__init__(f"{gap.channel}: events {missing} cannot be replayed ({gap.reason})")
        self.gap = gap
        self.channel = gap.channel
        self.reason = gap.reason
        self.from_seq = gap.from_seq
        self.to_seq = gap.to_seq
        self.state = gap.state
        self.head = gap.head


class UploadFailed(ClientError):
    """The upload failed.

    Attributes:
        reason: that of `file.upload.failed`: cancelled, expired, checksum, size, type, storage, infected.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"the upload failed ({reason}): {message}")
        self.reason = reason


class AnswerFailed(ClientError):
    """An agent's run ended without a complete answer; the text gives the agent's reason.

    Attributes:
        outcome: `failed`, `expired` or `cancelled`.
        code: the code of the agent's error, where it gave one; likewise `is_retryable`.
    """

    def __init__(self, complete: Payload) -> None:
        error: Payload = complete.get("error") or {}
        self.run_id: str = complete["run_id"]
        self.outcome: str = complete["outcome"]
        self.code: str = error.get("code", "")
        self.is_retryable: bool = error.get("retryable", False)
        how = {"failed": "failed", "expired": "expired"}.get(self.outcome, f"was {self.outcome}")
        reason = f" ({self.code}): {error['message']}" if error else ""
        super().__init__(f"{complete['agent']} {how}{reason}")
