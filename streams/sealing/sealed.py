"""The form of a sealed payload, and the rule for which channels have them. Pure.

A payload is a JSON object; a sealed one is a JSON string, so no client can send one and one byte tells them apart:

    "sealed1:<key id>[+<key id>…]:<base64 of nonce, ciphertext and tag>"

It is AES-256-GCM. The key is that of the person, or the SHA-256 of the keys of several people in the order of their IDs: without
any one of them it cannot be opened. The channel, the type and the actor are authenticated with it.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
from collections.abc import Sequence
from hashlib import sha256
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from streams.channel import Channel, Kind

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
SEALABLE: Final = frozenset({Kind.CONVERSATION, Kind.AGENT, Kind.TEAM, Kind.USER})
"""The kinds of channel whose payloads can be sealed. A document's changes build on each other: one that cannot be read would
make all later ones unusable."""
_MARK: Final = b'"sealed1:'
SEALED_IN_LINE: Final = b'"payload":"'
"""Part of every event on the wire whose payload is sealed, and of few others."""
_EVERY_TENANT: Final = "*"


class SubjectKey(NamedTuple):
    """The key of one person, and its ID, which is stored with what it seals."""

    id: str
    key: bytes


class SealBroken(ValueError):
    """The text is not what was sealed here, or was sealed by another key."""


def is_sealed(data: bytes) -> bool:
    """True if a stored payload is sealed."""
    return data[:1] == b'"'


def place_of(path: bytes, type_: bytes, actor: bytes) -> bytes:
    """The place of an event as it is authenticated with its payload: a payload that is moved elsewhere does not open."""
    return b"\n".join((path, type_, actor))


def key_of(keys: Sequence[bytes]) -> bytes:
    """The key that seals for these people."""
    return keys[0] if len(keys) == 1 else sha256(b"hub subjects\n" + b"".join(keys)).digest()


def seal(data: bytes, ids: Sequence[str], key: bytes, place: bytes, nonce: bytes) -> bytes:
    """Seal a payload by `key_of` the keys with these IDs. A nonce is used once."""
    box = nonce + AESGCM(key).encrypt(nonce, data, place)
    return b'%b%b:%b"' % (_MARK, "+".join(ids).encode(), b2a_base64(box, newline=False))


def key_ids(data: bytes) -> tuple[str, ...]:
    """The IDs of the keys that a sealed payload needs.

    Raises:
        SealBroken: it has another form.
    """
    ids, separator, _ = data[len(_MARK) :].partition(b":")
    if not data.startswith(_MARK) or not separator or not ids.isascii():
        raise SealBroken("the payload is neither an object nor sealed in a known form")
    return tuple(ids.decode().split("+"))


def unseal(data: bytes, key: bytes, place: bytes) -> bytes:
    """The payload.

    Raises:
        SealBroken: the payload was changed or moved, or the key is another one.
    """
    try:
        box = a2b_base64(data[data.index(b":", len(_MARK)) + 1 : -1])
        return AESGCM(key).decrypt(box[:NONCE_BYTES], box[NONCE_BYTES:], place)
    except (InvalidTag, ValueError) as error:
        raise SealBroken("the payload was changed after it was sealed, or moved") from error


class SealRule:
    """The channels whose payloads are sealed: pairs of a tenant, or `*`, and a kind."""

    def __init__(self, pairs: frozenset[tuple[str, Kind]]) -> None:
        self._pairs = pairs
        self._tenants = frozenset(tenant for tenant, _ in pairs)
        self._has_every = _EVERY_TENANT in self._tenants

    def seals(self, channel: Channel) -> bool:
        """True if new events of the channel are sealed."""
        return (channel.tenant, channel.kind) in self._pairs or (_EVERY_TENANT, channel.kind) in self._pairs

    def is_for(self, tenant: str) -> bool:
        """True if any kind of channel of the tenant is sealed."""
        return self._has_every or tenant in self._tenants

    def __str__(self) -> str:
        return ",".join(sorted(f"{tenant}:{kind.value}" for tenant, kind in self._pairs))

    def missing(self, other: str) -> list[str]:
        """The pairs of another rule, given as its text, that this one does not seal."""
        own = {f"{tenant}:{kind.value}" for tenant, kind in self._pairs}
        pairs = [pair for pair in other.split(",") if pair]
        return [pair for pair in pairs if not own & {pair, f"{_EVERY_TENANT}:{pair.rpartition(':')[2]}"}]


NOTHING_SEALED: Final = SealRule(frozenset())


def parse_seal_rule(text: str) -> SealRule:
    """Read a rule such as `acme:conversation,acme:team`.

    Raises:
        ValueError: it has another form, or a kind that cannot be sealed.
    """
    pairs = set[tuple[str, Kind]]()
    for item in filter(None, (part.strip() for part in text.split(","))):
        tenant, separator, kind = item.rpartition(":")
        if not separator or not tenant or kind not in {one.value for one in Kind}:
            raise ValueError(f"{item} must have the form tenant:kind, such as acme:conversation or *:team")
        if Kind(kind) not in SEALABLE:
            names = ", ".join(sorted(one.value for one in SEALABLE))
            raise ValueError(f"channels of the kind {kind} cannot be sealed, only {names}")
        pairs.add((tenant, Kind(kind)))
    return SealRule(frozenset(pairs))
