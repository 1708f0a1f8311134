"""Signed notes and checkpoints by C2SP: a text, and lines of signatures by Ed25519. Pure.

A checkpoint says that a log with this name had this number of leaves and this root. The key's name is the log's, so that keys
can be exchanged: a verifier knows several, and a note needs the signature of one.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_ED25519: Final = 1
_COSIGNATURE: Final = 4
_DASH: Final = "\N{EM DASH} "
_ID_BYTES: Final = 4
_TIME: Final = "time "
_PRIVATE: Final = "PRIVATE+KEY+"
_PRIVATE_BYTES: Final = 33
_NO_PRIVATE: Final = "a private key reads PRIVATE+KEY+<name>+<8 hex digits>+<base64>"


class NoteRefused(ValueError):
    """The text is not a note, or no known key has signed it."""


class PublicKey(NamedTuple):
    """The name and the public key of a signer, as text `<name>+<key id>+<base64>`."""

    name: str
    kind: int
    raw: bytes

    @classmethod
    def parse(cls, text: str) -> PublicKey:
        """Read the text form.

        Raises:
            NoteRefused: it is no such text, or its id is not that of the key.
        """
        try:
            name, key_id, encoded = text.strip().split("+", 2)
            data = b64decode(encoded, validate=True)
            key = cls(name, data[0], data[1:])
            if key.id.hex() != key_id:
                raise ValueError(key_id)
            Ed25519PublicKey.from_public_bytes(key.raw)
        except (ValueError, IndexError) as error:
            raise NoteRefused(
                "a public key reads <name>+<8 hex digits>+<base64>, as `hub audit key` prints it"
            ) from error
        return key

    @property
    def id(self) -> bytes:
        """The four bytes that name this key in a signature."""
        return sha256(self.name.encode() + b"\n" + bytes((self.kind,)) + self.raw).digest()[:_ID_BYTES]

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{b64encode(bytes((self.kind,)) + self.raw).decode()}"

    def accepts(self, text: bytes, signature: bytes) -> bool:
        """True if this key has signed the note's text."""
        if self.kind == _COSIGNATURE:
            text = _cosigned(text, int.from_bytes(signature[:8], "big"))
            signature = signature[8:]
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, text)
        except InvalidSignature:
            return False
        return True


class Signer:
    """A name and a private key; with a former key, while verifiers still learn of the change, both sign.

    Args:
        name: without spaces and `+`.
        private: the 32 bytes of the key.
        is_witness: signs as a witness does, with the time.
        former: the keys before it that sign too.
        retired: the public keys before it that do not sign any more.

    Attributes:
        publics: all public keys, this one's first.
    """

    def __init__(
        self,
        name: str,
        private: bytes,
        *,
        is_witness: bool = False,
        former: Sequence[Signer] = (),
        retired: Sequence[PublicKey] = (),
    ) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(private)
        self.public = PublicKey(
            name, _COSIGNATURE if is_witness else _ED25519, self._key.public_key().public_bytes_raw()
        )
        self.former, self._retired = tuple(former), tuple(retired)
        self.publics = (self.public, *(one.public for one in former), *retired)

    @classmethod
    def parse(cls, text: str, *, is_witness: bool = False) -> Signer:
        """Read a key file as `to_file` writes it: the private key, former private keys, retired public keys, one a line.

        Raises:
            NoteRefused: it is no such text.
        """
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        private = [line for line in lines if line.startswith(_PRIVATE)]
        if not private or lines[0] != private[0]:
            raise NoteRefused(_NO_PRIVATE)
        retired = [PublicKey.parse(line) for line in lines if not line.startswith(_PRIVATE)]
        former = [cls(*_read_private(line), is_witness=is_witness) for line in private[1:]]
        return cls(*_read_private(private[0]), is_witness=is_witness, former=former, retired=retired)

    def rotated(self, private: bytes) -> Signer:
        """A signer of the same name with another key; this one's signs too."""
        former = (Signer(self.public.name, self._key.private_bytes_raw()), *self.former)
        return Signer(self.public.name, private, former=former, retired=self._retired)

    def alone(self) -> Signer:
        """The same signer, whose former keys do not sign any more; their public keys stay known."""
        return Signer(self.public.name, self._key.private_bytes_raw(), retired=self.publics[1:])

    def to_file(self) -> str:
        """The text of the key file."""
        return "".join(f"{one}\n" for one in (self, *self.former, *self._retired))

    def __str__(self) -> str:
        encoded = b64encode(bytes((_ED25519,)) + self._key.private_bytes_raw()).decode()
        return f"PRIVATE+KEY+{self.public.name}+{self.public.id.hex()}+{encoded}"

    def sign(self, text: bytes, now_s: int = 0) -> bytes:
        """The line with the signature of a note's text, and one for each former key; a witness signs the time with it."""
        if self.public.kind == _COSIGNATURE:
            signature = now_s.to_bytes(8, "big") + self._key.sign(_cosigned(text, now_s))
        else:
            signature = self._key.sign(text)
        own = f"{_DASH}{self.public.name} {b64encode(self.public.id + signature).decode()}\n".encode()
        return own + b"".join(one.sign(text, now_s) for one in self.former)


def _read_private(line: str) -> tuple[str, bytes]:
    try:
        _, _, name, _, encoded = line.split("+", 4)
        data = b64decode(encoded, validate=True)
        if data[0] != _ED25519 or len(data) != _PRIVATE_BYTES:
            raise ValueError(name)
    except (ValueError, IndexError) as error:
        raise NoteRefused(_NO_PRIVATE) from error
    return name, data[1:]


def _cosigned(text: bytes, time_s: int) -> bytes:
    return b"cosignature/v1\ntime %d\n" % time_s + text


class Checkpoint(NamedTuple):
    """The head of a log: its name, number of leaves and root; further lines may follow."""

    origin: str
    size: int
    root: bytes
    extra: tuple[str, ...] = ()

    @property
    def time_s(self) -> int:
        """The time that the signer names, in seconds since 1970; 0 if it names none."""
        named = (line.removeprefix(_TIME) for line in self.extra if line.startswith(_TIME))
        return next((int(text) for text in named if text.isascii() and text.isdecimal()), 0)

    def text(self) -> bytes:
        """The note's text."""
        lines = (self.origin, str(self.size), b64encode(self.root).decode(), *self.extra)
        return "".join(f"{line}\n" for line in lines).encode()

    def signed(self, signer: Signer) -> bytes:
        """The signed note."""
        text = self.text()
        return text + b"\n" + signer.sign(text)


class Opened(NamedTuple):
    """A checkpoint whose signature is valid; `signers` are the names of the known keys that signed it."""

    checkpoint: Checkpoint
    signers: tuple[str, ...]


def open_note(note: bytes, keys: Iterable[PublicKey]) -> tuple[bytes, tuple[str, ...]]:
    """The text of a signed note, and the names of the known keys that signed it.

    Raises:
        NoteRefused: it is malformed, or none of the keys has signed it.
    """
    text, signatures = _parse_note(note)
    by_id = {(key.name, key.id): key for key in keys}
    found = []
    for name, data in signatures:
        key = by_id.get((name, data[:_ID_BYTES]))
        if key is not None:
            if not key.accepts(text, data[_ID_BYTES:]):
                raise NoteRefused(f"the signature of {name} does not match")
            found.append(name)
    if not found:
        names = ", ".join(name for name, _ in signatures)
        raise NoteRefused(f"no known key has signed it; signers: {names or 'none'}")
    return text, tuple(dict.fromkeys(found))


def open_checkpoint(note: bytes, keys: Iterable[PublicKey]) -> Opened:
    """Read a signed checkpoint.

    Raises:
        NoteRefused: it is malformed, or none of the keys has signed it.
    """
    text, signers = open_note(note, keys)
    return Opened(_parse_checkpoint(text), signers)


def signatures_of(note: bytes) -> list[str]:
    """The signatures of a note, each as name and key id, without looking whether they are valid.

    Raises:
        NoteRefused: it is malformed.
    """
    return [f"{name}+{data[:_ID_BYTES].hex()}" for name, data in _parse_note(note)[1]]


def read_checkpoint(note: bytes) -> Checkpoint:
    """Read a checkpoint without looking at its signatures.

    Raises:
        NoteRefused: it is malformed.
    """
    return _parse_checkpoint(_parse_note(note)[0])


def _parse_note(note: bytes) -> tuple[bytes, list[tuple[str, bytes]]]:
    try:
        body, separator, rest = note.decode().rpartition("\n\n")
        lines = [line.removeprefix(_DASH).split(" ") for line in rest.splitlines() if line.startswith(_DASH)]
        signatures = [(name, b64decode(data, validate=True)) for name, data in lines]
    except ValueError as error:
        raise NoteRefused("not a signed note") from error
    if not separator:
        raise NoteRefused("not a signed note")
    return body.encode() + b"\n", signatures


def _parse_checkpoint(text: bytes) -> Checkpoint:
    try:
        origin, size, root, *extra = text.decode().removesuffix("\n").split("\n")
        return Checkpoint(origin, int(size), b64decode(root, validate=True), tuple(extra))
    except ValueError as error:
        raise NoteRefused("not a signed checkpoint") from error
