"""Where files' bytes live: the port and its two implementations. It knows objects, not uploads."""

from hub.storage.local import LocalStore
from hub.storage.store import (
    AlreadyStored,
    BadContent,
    Download,
    NewObject,
    ObjectStore,
    Part,
    Pending,
    Signed,
    Stored,
    StoreError,
    StoreUnavailable,
    UploadGone,
)

__all__ = [
    "AlreadyStored",
    "BadContent",
    "Download",
    "LocalStore",
    "NewObject",
    "ObjectStore",
    "Part",
    "Pending",
    "Signed",
    "StoreError",
    "StoreUnavailable",
    "Stored",
    "UploadGone",
]
