"""What S3's error codes mean to the port. Pure; the exception type alone comes from botocore."""

from __future__ import annotations

from typing import Final

from botocore.exceptions import ClientError

from hub.storage.store import AlreadyStored, BadContent, StoreError, StoreUnavailable, UploadGone

_GONE: Final = frozenset({"NoSuchUpload"})
_MISSING: Final = frozenset({"NoSuchKey", "404", "NotFound", "InvalidRange", "416"})
_STORED: Final = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict"})
_BAD: Final = frozenset(
    {"BadDigest", "InvalidPart", "InvalidPartOrder", "EntityTooSmall", "EntityTooLarge", "InvalidDigest",
     "IncompleteBody", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "InvalidRequest",
     "MalformedXML"}
)  # fmt: skip
_RETRY: Final = frozenset({"SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "OperationAborted"})
_SERVER_ERROR: Final = 500


def translate(error: ClientError) -> Exception:
    """The port's exception for an S3 answer; `FileNotFoundError` for a missing object, which callers turn into None."""
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
