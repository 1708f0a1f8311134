"""The S3 object store, with boto3: AWS, MinIO, R2, Ceph. Calls run in threads; presigning has its own pool.

The configuration contains only options that measurements showed to matter, each with its reason. Operators create the
bucket.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from hub.storage.spool_budget import SpoolBudget
from hub.storage.store import (
    AlreadyStored,
    BadContent,
    Download,
    NewObject,
    PendingUpload,
    SignedRequest,
    StoredObject,
    StoredPart,
    StoreError,
    StoreUnavailable,
    UploadGone,
)
from hub.storage.threads import Threads
from streams.archive.retention import ObjectLock

_GONE: Final = frozenset({"NoSuchUpload"})
_MISSING: Final = frozenset({"NoSuchKey", "404", "NotFound", "InvalidRange", "416"})
_STORED: Final = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict"})
_BAD: Final = frozenset(
    {
        "BadDigest",
        "InvalidPart",
        "InvalidPartOrder",
        "EntityTooSmall",
        "EntityTooLarge",
        "InvalidDigest",
        "IncompleteBody",
        "XAmzContentSHA256Mismatch",
        "XAmzContentChecksumMismatch",
        "InvalidRequest",
        "MalformedXML",
    }
)
_RETRY: Final = frozenset({"SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "OperationAborted"})
_SERVER_ERROR: Final = 500


def translate(error: ClientError) -> Exception:
    """Converts an S3 error to the store's exceptions.

    A missing object becomes `FileNotFoundError`, which callers turn into None.
    """
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in _GONE:
        return UploadGone("no such upload")
    if code in _MISSING:
        return FileNotFoundError("no such object")
    if code in _STORED:
        return AlreadyStored("objects are never overwritten")
    if code in _BAD:
        return BadContent(f"the store refused the content: {code}")
    if code in _RETRY or status >= _SERVER_ERROR:
        return StoreUnavailable(f"the store answered {status} {code}")
    return StoreError(f"the store refused the call: {status} {code}")


P = ParamSpec("P")
R = TypeVar("R")
READ_BYTES: Final = 1024 * 1024
_ABORT_ROUNDS: Final = 5
"""Number of times an abort is repeated, because parts in flight may be stored after it (S3 API, AbortMultipartUpload)."""


@dataclass(frozen=True, slots=True)
class S3Settings:
    """The bucket and where it is. Credentials come from the environment, by boto3's own rules.

    Attributes:
        endpoint_url: None means AWS; others are addressed path-style unless `is_path_style` is False.
        timeout_s: maximum seconds for one answer; a call is tried `attempts` times.
    """

    bucket: str
    region: str = "us-east-1"
    endpoint_url: str | None = None
    is_path_style: bool | None = None
    timeout_s: float = 20.0
    attempts: int = 3

    def config(self) -> Config:
        """Returns boto3's configuration.

        Without `signature_version`, presigning falls back to SigV2 in us-east-1 and drops If-None-Match.
        Without `virtual`, the global host is used even for other regions. `when_required` adds no checksums
        besides ours.
        """
        is_path = self.endpoint_url is not None if self.is_path_style is None else self.is_path_style
        return Config(
            region_name=self.region,
            signature_version="s3v4",
            s3={"addressing_style": "path" if is_path else "virtual", "us_east_1_regional_endpoint": "regional"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            connect_timeout=5,
            read_timeout=self.timeout_s,
            retries={"mode": "standard", "total_max_attempts": self.attempts},
            max_pool_connections=32,
        )


class S3Store:
    """An `ObjectStore` in a bucket.

    Args:
        settings: the bucket.
        threads: maximum calls at a time. Presigning (0.4 ms of CPU per URL) has two threads of its own and never waits for the
            network.
    """

    def __init__(self, settings: S3Settings, *, threads: int = 8) -> None:
        self._bucket = settings.bucket
        session = boto3.session.Session()  # a session is not thread-safe, but the client made from it is
        self._client: Any = session.client("s3", endpoint_url=settings.endpoint_url, config=settings.config())
        self._threads = Threads("s3", threads)
        self._signers = Threads("s3-sign", 2)
        self.budget = SpoolBudget()
        self._spool = tempfile.TemporaryDirectory(prefix="hub-s3-")

    @property
    def spool(self) -> Path:
        """A temporary folder of this process."""
        return Path(self._spool.name)

    async def _call(self, name: str, **arguments: object) -> dict[str, Any]:
        """Makes one API call on the bucket; errors become the store's exceptions."""
        return await self._run(getattr(self._client, name), Bucket=self._bucket, **arguments)

    async def _run(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await self._threads.run(call, *args, **kwargs)
        except ClientError as error:
            raise translate(error) from error
        except (BotoCoreError, HTTPClientError, OSError) as error:
            raise StoreUnavailable(f"the store did not answer: {type(error).__name__}") from error

    async def _sign(self, name: str, arguments: Mapping[str, Any], life_s: int) -> str:
        url: str = await self._signers.run(
            self._client.generate_presigned_url, name, Params={"Bucket": self._bucket, **arguments}, ExpiresIn=life_s
        )
        return url

    async def sign_put(self, new: NewObject, life_s: int, owner: str = "") -> SignedRequest:  # noqa: ARG002 - S3 takes the bytes itself
        """See ObjectStore."""
        arguments = {
            "Key": new.key,
            "ContentLength": new.size,
            "ContentType": new.mime,
            "IfNoneMatch": "*",
            **_checksum(new.sha256),
        }
        headers = {"content-length": str(new.size), "content-type": new.mime, "if-none-match": "*"}
        url = await self._sign("put_object", arguments, life_s)
        return SignedRequest("PUT", url, headers | _checksum_header(new.sha256))

    async def sign_parts(
        self,
        key: str,
        handle: str,
        parts: Sequence[StoredPart],
        life_s: int,
        owner: str = "",  # noqa: ARG002 - S3 takes the bytes itself
    ) -> list[SignedRequest]:
        """See ObjectStore."""
        signed = []
        for part in parts:
            arguments = {
                "Key": key,
                "UploadId": handle,
                "PartNumber": part.n,
                "ContentLength": part.size,
                **_checksum(part.sha256),
            }
            url = await self._sign("upload_part", arguments, life_s)
            signed.append(SignedRequest("PUT", url, {"content-length": str(part.size)} | _checksum_header(part.sha256)))
        return signed

    async def sign_get(self, key: str, download: Download, life_s: int) -> str:
        """See ObjectStore."""
        arguments = {
            "Key": key,
            "ResponseContentDisposition": download.disposition,
            "ResponseContentType": download.mime,
        }
        return await self._sign("get_object", arguments, life_s)

    async def begin(self, key: str, mime: str, *, is_checked: bool) -> str:
        """See ObjectStore. AWS refuses parts with a checksum if the upload was started without, and vice versa."""
        checksum = {"ChecksumAlgorithm": "SHA256"} if is_checked else {}
        answer = await self._call("create_multipart_upload", Key=key, ContentType=mime, **checksum)
        handle: str = answer["UploadId"]
        return handle

    async def write_part(self, key: str, handle: str, part: StoredPart, source: Path) -> None:
        """See ObjectStore."""
        await self._run(self._upload_part, key, handle, part, source)

    def _upload_part(self, key: str, handle: str, part: StoredPart, source: Path) -> None:
        with source.open("rb") as body:
            self._client.upload_part(
                Bucket=self._bucket,
                Key=key,
                UploadId=handle,
                PartNumber=part.n,
                Body=body,
                ContentLength=part.size,
                **_checksum(part.sha256),
            )

    async def parts(self, key: str, handle: str) -> list[StoredPart]:
        """See ObjectStore. Reads pages of 1,000."""
        found: list[StoredPart] = []
        marker = 0
        while True:
            page = await self._call("list_parts", Key=key, UploadId=handle, PartNumberMarker=marker)
            found += [_part(entry) for entry in page.get("Parts", ())]
            if not page.get("IsTruncated"):
                return found
            marker = page["NextPartNumberMarker"]

    async def finish(self, key: str, handle: str, parts: Sequence[StoredPart]) -> None:
        """See ObjectStore. boto3 raises an error inside a 200 answer like any other."""
        listed = [{"PartNumber": part.n, "ETag": part.tag, **_checksum(part.sha256)} for part in parts]
        await self._call(
            "complete_multipart_upload",
            Key=key,
            UploadId=handle,
            MultipartUpload={"Parts": listed},
            IfNoneMatch="*",
            MpuObjectSize=sum(part.size for part in parts),
        )

    async def abort(self, key: str, handle: str) -> None:
        """See ObjectStore."""
        with suppress(UploadGone):
            for _ in range(_ABORT_ROUNDS):
                await self._call("abort_multipart_upload", Key=key, UploadId=handle)
                if not await self.parts(key, handle):
                    return

    async def pending(self, prefix: str) -> list[PendingUpload]:
        """See ObjectStore."""
        found: list[PendingUpload] = []
        more: dict[str, str] = {}
        while True:
            page = await self._call("list_multipart_uploads", Prefix=prefix, **more)
            found += [PendingUpload(entry["Key"], entry["UploadId"]) for entry in page.get("Uploads", ())]
            if not page.get("IsTruncated"):
                return found
            more = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    async def put(self, new: NewObject, source: Path) -> None:
        """See ObjectStore."""
        await self._run(self._put_object, new, source)

    def _put_object(self, new: NewObject, source: Path) -> None:
        with source.open("rb") as body:
            self._client.put_object(
                Bucket=self._bucket,
                Key=new.key,
                Body=body,
                ContentLength=new.size,
                ContentType=new.mime,
                IfNoneMatch="*",
                **_checksum(new.sha256),
                **_locked(new.lock),
            )

    async def look(self, key: str) -> StoredObject | None:
        """See ObjectStore."""
        try:
            head = await self._call("head_object", Key=key, ChecksumMode="ENABLED")
        except FileNotFoundError:
            return None
        checksum: str | None = head.get("ChecksumSHA256")
        if checksum and ("-" in checksum or head.get("ChecksumType") == "COMPOSITE"):
            return StoredObject(head["ContentLength"], composite=checksum)
        return StoredObject(head["ContentLength"], sha256=checksum)

    async def read(self, key: str, start: int = 0, size: int | None = None) -> AsyncIterator[bytes]:
        """See ObjectStore."""
        end = "" if size is None else str(start + size - 1)
        try:
            answer = await self._call("get_object", Key=key, Range=f"bytes={start}-{end}")
        except FileNotFoundError:
            return
        body = answer["Body"]
        try:
            while piece := await self._run(body.read, READ_BYTES):
                yield piece
        finally:
            body.close()

    async def delete(self, key: str) -> None:
        """See ObjectStore."""
        await self._call("delete_object", Key=key)

    async def keys(self, prefix: str, after: str = "") -> list[str]:
        """See ObjectStore."""
        found: list[str] = []
        more = {"StartAfter": after} if after else {}
        while True:
            page = await self._call("list_objects_v2", Prefix=prefix, **more)
            found += [entry["Key"] for entry in page.get("Contents", ())]
            if not page.get("IsTruncated"):
                return sorted(found)
            more = {"ContinuationToken": page["NextContinuationToken"]}

    async def close(self) -> None:
        """See ObjectStore."""
        await self._threads.close()
        await self._signers.close()
        self._client.close()
        self._spool.cleanup()


def _part(entry: Mapping[str, Any]) -> StoredPart:
    return StoredPart(entry["PartNumber"], entry["Size"], entry.get("ChecksumSHA256"), entry["ETag"])


def _checksum(sha256: str | None) -> dict[str, str]:
    return {"ChecksumSHA256": sha256} if sha256 else {}


def _checksum_header(sha256: str | None) -> dict[str, str]:
    return {"x-amz-checksum-sha256": sha256} if sha256 else {}


def _locked(lock: ObjectLock | None) -> dict[str, Any]:
    if lock is None:
        return {}
    until = datetime.now(UTC) + timedelta(days=lock.days)
    return {"ObjectLockMode": lock.mode, "ObjectLockRetainUntilDate": until}
