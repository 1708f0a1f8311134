"""S3 keeps the object store's contract: against an endpoint over HTTP that enforces, and the plain cases against moto in process.

moto checks no signature, checksum or expiry, so it runs the plain cases only.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import boto3
import httpx
import pytest
from moto import mock_aws

from contract.object_store_cases import EnforcingCases, PlainCases
from hub.storage.s3 import S3Settings, S3Store
from hub.storage.store import NewObject, StoreError, StoreUnavailable
from ops.embedded_redis.probe import free_port
from support.s3_server import CREDENTIALS, S3Server, why_missing


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    server = S3Server()
    yield server
    server.close()


@pytest.mark.slow
@pytest.mark.skipif(why_missing() is not None, reason=str(why_missing()))
class TestS3Store(EnforcingCases):
    """See EnforcingCases."""

    @pytest.fixture
    async def store(self, server: S3Server) -> AsyncIterator[S3Store]:
        store = S3Store(S3Settings(server.bucket(), endpoint_url=server.url))
        yield store
        await store.close()

    @pytest.fixture
    async def http(self) -> AsyncIterator[httpx.AsyncClient]:
        async with httpx.AsyncClient(timeout=30) as client:
            yield client

    async def test_missing_bucket_says_so(self, server: S3Server) -> None:
        """A bucket that is not there is a refusal, which nobody retries."""
        store = S3Store(S3Settings("no-such-bucket", endpoint_url=server.url))

        with pytest.raises(StoreError) as raised:
            await store.keys("")

        assert type(raised.value) is StoreError
        await store.close()


class TestS3StoreOnMoto(PlainCases):
    """See PlainCases."""

    @pytest.fixture
    async def store(self) -> AsyncIterator[S3Store]:
        with mock_aws():
            client = boto3.client("s3", region_name="us-east-1")
            client.create_bucket(Bucket="files")
            client.close()
            store = S3Store(S3Settings("files"))
            yield store
            await store.close()


async def test_store_away_is_unavailable() -> None:
    """Nobody listening is StoreUnavailable: the same call may be made again."""
    store = S3Store(S3Settings("files", endpoint_url=f"http://127.0.0.1:{free_port()}", attempts=1))

    with pytest.raises(StoreUnavailable):
        await store.look("acme/x")

    await store.close()


@pytest.mark.parametrize(("settings", "host"), [
    (S3Settings("files", "eu-west-1"), "files.s3.eu-west-1.amazonaws.com"),
    (S3Settings("files", endpoint_url="http://minio:9000"), "minio:9000/files/"),
    (S3Settings("files", endpoint_url="http://minio:9000", is_path_style=False), "files.minio:9000/"),
])  # fmt: skip # a case a row
async def test_addresses(settings: S3Settings, host: str) -> None:
    """AWS gets the bucket in the host of its region, other stores in the path, unless told otherwise; SigV4 always."""
    store = S3Store(settings)

    signed = await store.sign_put(NewObject("acme/x", 3, "text/plain"), 60)

    assert host in signed.url
    assert "X-Amz-Algorithm=AWS4-HMAC-SHA256" in signed.url
    await store.close()
