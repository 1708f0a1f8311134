"""Opens the object store that the settings select."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from hub.config import Settings
from hub.storage.local import LocalStore
from hub.storage.store import ObjectStore

_PATH_STYLE: Final = {"auto": None, "yes": True, "no": False}


def open_store(settings: Settings) -> ObjectStore:
    """Opens S3 if a bucket is configured, else the folder `files` of the data directory."""
    if settings.s3_bucket is None:
        return LocalStore(Path(settings.data_dir) / "files", time.time)
    from hub.storage.s3 import S3Settings, S3Store  # boto3 takes half a second to import

    region, is_path_style = settings.s3_region or "us-east-1", _PATH_STYLE[settings.s3_path_style]
    return S3Store(S3Settings(settings.s3_bucket, region, settings.s3_endpoint_url, is_path_style))
