"""SHA-256 digests as S3 writes them: base64, and composites of parts. Pure."""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable
from hashlib import sha256
from typing import Final

DIGEST_BYTES: Final = 32


def encode_digest(digest: bytes) -> str:
    """The 44 characters of a digest."""
    return b64encode(digest).decode("ascii")


def decode_digest(text: str) -> bytes:
    """The 32 bytes of a digest.

    Raises:
        ValueError: not base64 of 32 bytes.
    """
    try:
        digest = b64decode(text, validate=True)
    except Base64Error as error:
        raise ValueError("a digest is base64") from error
    if len(digest) != DIGEST_BYTES:
        raise ValueError("a SHA-256 digest has 32 bytes")
    return digest


def sha256_of(data: bytes) -> str:
    """The digest of these bytes."""
    return encode_digest(sha256(data).digest())


def composite(part_digests: Iterable[str]) -> str:
    """The checksum of an object made of parts: SHA-256 of the raw part digests joined, and how many they were.

    Source: S3 user guide, "Checking object integrity", composite checksums. GetObjectAttributes leaves the `-N` out.
    """
    raw = [decode_digest(text) for text in part_digests]
    return f"{encode_digest(sha256(b''.join(raw)).digest())}-{len(raw)}"
