"""Client messages in, hub messages out, as JSON bytes. Pure.

Parsing knows the envelope (type, id, channel, payload) and no type's meaning; encoding joins bytes and writes JSON only for
replies. Stored events are never encoded here: see `streams.envelope.Entry.wire`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from json.encoder import encode_basestring as _quoted  # as json.dumps writes a text with ensure_ascii=False
from typing import Final, NamedTuple

from pydantic_core import from_json

from hub.errors import ErrorDetail, HubError
from streams.json_bytes import to_json

ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
ARRAY_MAX: Final = 100
_FIELDS: Final = frozenset({"type", "id", "channel", "payload"})
_READABLE_ID: Final = re.compile(rb'"id"\s*:\s*"([A-Za-z0-9_.:-]{1,64})"')
_NO_PAYLOAD: Final[Mapping[str, object]] = {}


class ClientMessage(NamedTuple):
    """One message of a client, its fields checked; `payload` is still unchecked."""

    type: str
    id: str | None
    channel: str | None
    payload: Mapping[str, object]
    has_unknown_fields: bool = False


class Unreadable(HubError):
    """Not JSON, not an object, or too deep: three in a row close the socket. `re` is the id if one could be read."""

    def __init__(self, message: str, re: str | None) -> None:
        super().__init__(4005, message)
        self.re = re


class BadMessage(HubError):
    """A JSON object that is no message."""

    def __init__(self, field: str, problem: str, re: str | None) -> None:
        super().__init__(4005, f"{field} {problem}", details=(ErrorDetail(field, problem),))
        self.re = re


def read_values(data: bytes) -> list[object]:
    """The JSON values of one text message: the object, or the elements of the array.

    Raises:
        Unreadable: not JSON, neither object nor array, nested too deep, or an array of none or more than 100.
    """
    try:
        value = from_json(data, allow_inf_nan=False)
    except (ValueError, RecursionError) as error:
        is_deep = "recursion" in str(error)
        sentence = (
            "the message is nested too deep" if is_deep else "send one JSON object, or an array of them, in UTF-8"
        )
        raise Unreadable(sentence, _readable_id(data)) from None
    if isinstance(value, list):
        if not 1 <= len(value) <= ARRAY_MAX:
            raise Unreadable("an array holds 1 to 100 messages", None)
        return value
    return [value]


def read_message(value: object) -> ClientMessage:
    """The message in one JSON value.

    Raises:
        Unreadable: not an object.
        BadMessage: a field of the message is missing or of the wrong type.
    """
    if not isinstance(value, dict):
        raise Unreadable("a message is a JSON object", None)
    given_id = value.get("id")
    re_id = given_id if isinstance(given_id, str) and ID.fullmatch(given_id) else None
    if given_id is not None and re_id is None:
        raise BadMessage("id", "must be 1 to 64 of A-Z a-z 0-9 _ . : -", None)
    kind = value.get("type")
    if not isinstance(kind, str):
        raise BadMessage("type", "must be a string", re_id)
    channel = value.get("channel")
    if channel is not None and not isinstance(channel, str):
        raise BadMessage("channel", "must be a string", re_id)
    payload = value.get("payload", _NO_PAYLOAD)
    if not isinstance(payload, dict) and payload is not _NO_PAYLOAD:
        raise BadMessage("payload", "must be an object", re_id)
    return ClientMessage(kind, re_id, channel, payload, not _FIELDS.issuperset(value))


def _readable_id(data: bytes) -> str | None:
    found = _READABLE_ID.search(data, 0, 4096)
    return found[1].decode() if found else None


def reply(type_: str, re: str | None, channel: str | None, payload: bytes) -> bytes:
    """A reply or notice as JSON; `payload` is JSON already. Types, ids and channels need no escaping."""
    answered = f',"re":"{re}"' if re else ""
    place = f',"channel":"{channel}"' if channel else ""
    return b'{"type":"%b"%b%b,"payload":%b}' % (type_.encode(), answered.encode(), place.encode(), payload)


def error_message(error: HubError, re: str | None = None, channel: str | None = None) -> bytes:
    """`connection.error` as JSON. The channel may be any text a client sent, so it is escaped here."""
    answered = f',"re":"{re}"' if re is not None else ""
    place = f',"channel":{_quoted(channel)}' if channel is not None else ""
    wait = f',"retry_after_ms":{error.retry_after_ms}' if error.retry_after_ms is not None else ""
    details = b""
    if error.details:
        details = b',"details":' + to_json([{"field": d.field, "problem": d.problem} for d in error.details])
    head = f'{{"type":"connection.error"{answered}{place},"payload":'.encode()
    row = error.row
    told = _error_head(row.code, row.name, error.message, error.retry.value)
    return b"%b%b%b%b}}" % (head, told, wait.encode(), details)


@lru_cache(maxsize=256)
def _error_head(code: int, name: str, message: str, retry: str) -> bytes:
    """The part that refusals of one kind share, written once; without its closing brace."""
    return to_json({"code": code, "name": name, "message": message, "retry": retry})[:-1]
