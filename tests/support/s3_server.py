"""A real S3 endpoint over HTTP: localstack-core, the one local server that enforces signatures, expiry and checksums.

It pins its own boto3, so it has a separate virtual environment (`.s3venv`), which `python tests/support/s3_server.py` builds in
25 s. Unlike AWS it keeps objects in memory or temporary files, and has no latency, throttling or region redirects.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

import boto3

from ops.embedded_redis.probe import free_port

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".s3venv"
REQUIREMENTS = (
    "localstack-core[base-runtime]==4.12.0",
    "cbor2<5.9",
    "pyopenssl<25.2",
    "cryptography<46",
    "service-identity<25",
)
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
_START_S = 150.0


def why_missing() -> str | None:
    """The reason why no server can be started; None if one can."""
    if (VENV / "complete").exists():
        return None
    return "no S3 server here: build it with `python tests/support/s3_server.py` (needs PyPI, 25 s)"


def build() -> None:
    """Build the virtual environment unless it exists."""
    if why_missing() is None:
        return
    subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
    subprocess.run([VENV / "bin" / "pip", "install", "-q", *REQUIREMENTS], check=True)
    (VENV / "complete").touch()


class S3Server:
    """The server as a child process on a random port of 127.0.0.1. `start` after `kill` starts it empty."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="hubs3-"))
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._child: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start the server and wait until it answers."""
        environment = {
            **os.environ,
            "SERVICES": "s3", "EAGER_SERVICE_LOADING": "1", "GATEWAY_LISTEN": f"127.0.0.1:{self.port}",
            "S3_SKIP_SIGNATURE_VALIDATION": "0", "DISABLE_EVENTS": "1", "SKIP_SSL_CERT_DOWNLOAD": "1", "DNS_ADDRESS": "0",
            "FILESYSTEM_ROOT": str(self.folder), "LOCALSTACK_VOLUME_DIR": str(self.folder / "volume"),
            "TMPDIR": str(self.folder), "S3_DIR": str(self.folder / "s3"), "CONFIG_DIR": str(self.folder / "config"),
        }  # fmt: skip # a table
        with (self.folder / "log").open("ab") as log:
            self._child = subprocess.Popen(
                [VENV / "bin" / "python", "-m", "localstack.runtime.main"],
                env=environment, stdout=log, stderr=log, cwd=self.folder, start_new_session=True,
            )  # fmt: skip # many arguments
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            assert self._child is not None
            if self._child.poll() is not None:
                raise RuntimeError("the S3 server ended: " + (self.folder / "log").read_text()[-2000:])
            with contextlib.suppress(urllib.error.URLError, OSError):
                urllib.request.urlopen(f"{self.url}/_localstack/health", timeout=2)
                return
            time.sleep(0.1)
        raise RuntimeError("the S3 server did not answer: " + (self.folder / "log").read_text()[-2000:])

    def bucket(self, *, is_lockable: bool = False) -> str:
        """Create a new, empty bucket, with Object Lock if it `is_lockable`; returns its name."""
        name = f"hub-{uuid.uuid4().hex[:12]}"
        client = boto3.session.Session(*CREDENTIALS.values()).client(
            "s3", endpoint_url=self.url, region_name="us-east-1"
        )
        client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=is_lockable)
        client.close()
        return name

    def stop(self) -> None:
        """Stop the server with SIGSTOP: it hangs while connections stay open."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Continue the server with SIGCONT after `stop`."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self._child is not None
        os.killpg(self._child.pid, number)

    def close(self) -> None:
        """End the child and remove its folder."""
        if self._child is not None and self._child.poll() is None:
            self._signal(signal.SIGKILL)
            self._child.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def serve() -> None:
    """Run a server with a bucket until Ctrl-C; prints the environment variables for a hub that is to use it."""
    server = S3Server()
    try:
        found = {"S3_ENDPOINT_URL": server.url, "S3_BUCKET": server.bucket(), **CREDENTIALS}
        print("\n".join(f"export {name}={value}" for name, value in found.items()), flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
    finally:
        server.close()


if __name__ == "__main__":
    build()
    if sys.argv[1:] == ["serve"]:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        serve()
