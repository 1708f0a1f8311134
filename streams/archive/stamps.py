"""Stamps by RFC 3161: the request for one, and what a stamp proves.

A stamp is the reply of a time-stamping authority over the bytes of a signed checkpoint, as `openssl ts` reads it. It needs
rfc3161-client (the extra `audit`), so this module is imported only where stamps are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.x509.oid import NameOID
from rfc3161_client import (
    HashAlgorithm,
    TimestampRequestBuilder,
    VerificationError,
    VerifierBuilder,
    decode_timestamp_response,
)
from rfc3161_client.tsp import PKIStatus, TimeStampResponse

from streams.errors import TimestampRefused

STAMP_BYTES_MAX: Final = 65_536
"""Maximum size of a stamp; one with its certificates has 2 to 8 KB."""


class StampRequest(NamedTuple):
    """The request for a stamp, and the random number that its reply must repeat."""

    der: bytes
    nonce: int


class Stamp(NamedTuple):
    """A stamp that is over the checkpoint it is kept with.

    Attributes:
        time_s: the authority's time, in seconds since 1970.
        authority: the name in the certificate that signed it.
        is_trusted: the signature was verified, and its certificate is one of an authority that was given.
    """

    time_s: int
    authority: str
    is_trusted: bool


def read_authorities(pem: bytes) -> Sequence[x509.Certificate]:
    """The certificates of a file, of authorities that may issue stamps.

    Raises:
        ValueError: it has none.
    """
    return x509.load_pem_x509_certificates(pem)


def request_for(note: bytes) -> StampRequest:
    """The request for a stamp over a checkpoint. The reply is to have the authority's certificate."""
    made = TimestampRequestBuilder().data(note).hash_algorithm(HashAlgorithm.SHA256).build()
    if made.nonce is None:
        raise RuntimeError("a request without a nonce was made")
    return StampRequest(made.as_bytes(), made.nonce)


def read_stamp(
    reply: bytes, note: bytes, authorities: Sequence[x509.Certificate] = (), nonce: int | None = None
) -> Stamp:
    """Read a reply, and check that it stamps these bytes.

    Args:
        reply: the authority's reply.
        note: the signed checkpoint.
        authorities: certificates that are trusted; without any, the signature is not checked.
        nonce: the number that it must repeat.

    Raises:
        TimestampRefused: it is no stamp of these bytes, or not of an authority that is trusted.
    """
    if len(reply) > STAMP_BYTES_MAX:
        raise TimestampRefused(f"a stamp of {len(reply)} bytes is too large")
    try:
        found = decode_timestamp_response(reply)
        if PKIStatus(found.status) is not PKIStatus.GRANTED:
            told = "; ".join(found.status_string) or PKIStatus(found.status).name.lower()
            raise TimestampRefused(f"the authority did not grant a stamp: {told[:200]}")
        facts = found.tst_info
        if facts.message_imprint.message != sha256(note).digest():
            raise TimestampRefused("the stamp is over other bytes")
        if nonce is not None and facts.nonce != nonce:
            raise TimestampRefused("the stamp answers another request: its nonce is not the one that was sent")
        if authorities:
            builder = VerifierBuilder(roots=list(authorities))
            builder.build().verify_message(found, note)
        return Stamp(int(_utc(facts.gen_time).timestamp()), _signer_of(found), bool(authorities))
    except VerificationError as error:
        raise TimestampRefused(f"no trusted authority has signed the stamp: {error}") from error
    except ValueError as error:  # as the parsers of it and of certificates raise
        raise TimestampRefused(f"this is no stamp: {error}") from error


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _signer_of(found: TimeStampResponse) -> str:
    """The common name of the certificate that signed, or its whole name."""
    signed = found.signed_data
    ids = {(one.issuer, one.serial_number) for one in signed.signer_infos}
    for der in signed.certificates:
        one = x509.load_der_x509_certificate(der)
        if (one.issuer, one.serial_number) in ids:
            names = one.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
            return str(names[0].value) if names else one.subject.rfc4514_string()
    raise TimestampRefused("the stamp is without the certificate that signed it")
