"""Which store a node uses, by its settings."""

from __future__ import annotations

import time
from pathlib import Path

from hub.storage.local import LocalStore
from hub.storage.store import ObjectStore


def open_store(bucket: str | None, region: str | None, endpoint_url: str | None, data_dir: str) -> ObjectStore:
    """S3 when there is a bucket, else the folder `files` of the data directory."""
    if bucket is None:
        return LocalStore(Path(data_dir) / "files", time.time)
    from hub.storage.s3 import S3Settings, S3Store  # boto3 takes half a second to import

    return S3Store(S3Settings(bucket, region or "us-east-1", endpoint_url))
