"""A time-stamping authority (RFC 3161): `openssl ts` behind a small HTTP server, with certificates of its own."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Behaviour = Literal["honest", "refusing", "failing", "hanging", "other_digest", "other_nonce", "endless", "nonsense"]
_CONFIG: Final = """
[tsa]
default_tsa = one
[one]
dir = .
serial = serial
signer_cert = tsa.pem
signer_key = tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = {digests}
accuracy = secs:1
ess_cert_id_alg = sha256
"""


class LocalAuthority:
    """The authority in a folder, and its server.

    Attributes:
        behaviour: the way it answers from now on.
        ca: the file with the certificate of its root.
        asked: a number for each request, and `arrived` is set by each.
    """

    def __init__(self, folder: Path, name: str = "Test Timestamps") -> None:
        folder.mkdir()
        self.behaviour: Behaviour = "honest"
        self.folder, self.ca = folder, folder / "ca.pem"
        self.asked = 0
        self.arrived = asyncio.Event()
        self.url = ""
        root, root_key = _certificate(folder, "ca", f"{name} Root", None)
        _certificate(folder, "tsa", name, (root, root_key))
        (folder / "serial").write_text("01")
        (folder / "openssl.conf").write_text(_CONFIG.format(digests="sha256"))
        (folder / "refusing.conf").write_text(_CONFIG.format(digests="sha512"))

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[LocalAuthority]:
        """Serve on a free port for the duration of the block."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/tsr"
        async with server:
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = next(line for line in head.split("\r\n") if line.startswith("content-length:"))
            request = await reader.readexactly(int(length.partition(":")[2]))
            self.asked += 1
            self.arrived.set()
            if self.behaviour == "hanging":
                await reader.read()  # until the client goes away
                return
            if self.behaviour == "failing":
                writer.write(b"HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n")
            elif self.behaviour == "endless":
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(1_048_576))
            else:
                reply = b"no stamp" if self.behaviour == "nonsense" else await self._reply(request)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(reply) + reply)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has gone
        finally:
            writer.close()

    async def _reply(self, request: bytes) -> bytes:
        if self.behaviour == "other_digest":
            request = await self.query(sha256(b"something else").hexdigest())
        elif self.behaviour == "other_nonce":
            digest = request.partition(b"\x04\x20")[2][:32]  # the first octet string of 32 bytes
            request = await self.query(digest.hex())
        config = "refusing.conf" if self.behaviour == "refusing" else "openssl.conf"
        return await self.openssl("ts", "-reply", "-config", config, "-queryfile", self._file(request))

    async def query(self, digest: str) -> bytes:
        """A request about a digest, with a nonce of its own."""
        return await self.openssl("ts", "-query", "-digest", digest, "-sha256", "-cert")

    def _file(self, content: bytes) -> str:
        path = self.folder / f"{secrets.token_hex(8)}.tsq"
        path.write_bytes(content)
        return path.name

    async def openssl(self, *arguments: str) -> bytes:
        """The output of an openssl command in the authority's folder."""
        ran = await asyncio.create_subprocess_exec(
            "openssl", *arguments, cwd=self.folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, err = await ran.communicate()
        assert ran.returncode == 0, err.decode()
        return out


def _certificate(
    folder: Path, file: str, name: str, issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signing = issuer[1] if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if issuer:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), critical=True)
    made = builder.sign(signing, hashes.SHA256())
    (folder / f"{file}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / f"{file}.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return made, key
