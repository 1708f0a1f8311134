"""Checks what an auditor was given, with public keys alone: no hub, Redis or archive is asked."""

from __future__ import annotations

import json
from pathlib import Path

from ops.cli.audit_access import authorities_in
from ops.cli.audit_report import check_signature
from ops.cli.failure import EXIT_USAGE, CommandFailed
from streams.archive.notes import NoteRefused, PublicKey, open_checkpoint
from streams.archive.proofs import CONSISTENCY_FORMAT, ConsistencyProof, EventProof, ProofRefused
from streams.errors import TimestampRefused
from streams.times import rfc3339


def checked(path: Path, keys: list[str], event: Path | None, known: Path | None, tsa_ca: Path | None = None) -> str:
    """The sentence about what a proof, a checkpoint or a signature proves.

    Args:
        path: the file of a proof, of a checkpoint, or of a report, whose signature is beside it.
        keys: public keys that may have signed.
        event: for the proof of an event, a file whose first line it is.
        known: for a proof of consistency, a file with the older checkpoint.
        tsa_ca: for a checkpoint, a file with certificates of the authority whose stamp is beside it.

    Raises:
        CommandFailed: it proves nothing, or what it is about was not given.
    """
    try:
        parsed = [PublicKey.parse(line) for text in keys for line in text.split()]
        given = path.read_bytes()
        if given.lstrip().lower().startswith(b"<!doctype html"):
            return _report(path, given, parsed)
        if not given.lstrip().startswith(b"{"):
            return _checkpoint(given, parsed) + _stamp(path, given, tsa_ca)
        if _format_of(given) == CONSISTENCY_FORMAT:
            return _consistency(ConsistencyProof.parse(given), _needed(known, "--known"), parsed)
        return _event(EventProof.parse(given), _needed(event, "--event"), parsed)
    except NoteRefused as error:
        raise CommandFailed(str(error), EXIT_USAGE) from error
    except ProofRefused as error:
        raise CommandFailed(f"not proved: {error}") from error


def _format_of(given: bytes) -> object:
    try:
        return json.loads(given)["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise ProofRefused("this is not a proof") from error


def _needed(path: Path | None, option: str) -> bytes:
    if path is None:
        raise CommandFailed(f"this proof needs {option}, with what it is about", EXIT_USAGE)
    return path.read_bytes()


def _report(path: Path, page: bytes, keys: list[PublicKey]) -> str:
    signature = path.with_name(f"{path.name}.sig")
    if not signature.exists():
        raise ProofRefused(f"there is no signature beside the report, in {signature}")
    try:
        return check_signature(page, signature.read_bytes(), keys)
    except NoteRefused as error:
        raise ProofRefused(str(error)) from error


def _checkpoint(note: bytes, keys: list[PublicKey]) -> str:
    try:
        opened = open_checkpoint(note, keys)
    except NoteRefused as error:
        raise ProofRefused(str(error)) from error
    told = f"a checkpoint of {opened.checkpoint.origin} with {opened.checkpoint.size} heads"
    return f"{told}, signed by {', '.join(opened.signers)}"


def _stamp(path: Path, note: bytes, tsa_ca: Path | None) -> str:
    if not (authorities := authorities_in(tsa_ca)):
        return ""
    from streams.archive.stamps import read_stamp

    stamp = stamp_beside(path)
    if not stamp.exists():
        raise ProofRefused(f"there is no stamp beside the checkpoint, in {stamp}")
    try:
        found = read_stamp(stamp.read_bytes(), note, authorities)
    except TimestampRefused as error:
        raise ProofRefused(f"{stamp}: {error}") from error
    return f"; stamped by {found.authority} at {rfc3339(found.time_s * 1000)}"


def stamp_beside(checkpoint: Path) -> Path:
    """The file of a checkpoint's stamp, beside that of the checkpoint."""
    return checkpoint.with_name(f"{checkpoint.name}.tsr")


def _event(proof: EventProof, event: bytes, keys: list[PublicKey]) -> str:
    opened = proof.check(event.partition(b"\n")[0], keys)
    told = f"event {proof.seq} of {proof.head.channel} is under the checkpoint of {opened.checkpoint.origin}"
    return f"{told} with {opened.checkpoint.size} heads, signed by {', '.join(opened.signers)}"


def _consistency(proof: ConsistencyProof, known: bytes, keys: list[PublicKey]) -> str:
    before, now = proof.check(known, keys)
    told = f"the checkpoint of {now.checkpoint.origin} with {now.checkpoint.size} heads"
    return f"{told} continues the one with {before.checkpoint.size}, signed by {', '.join(now.signers)}"
