"""Limits on uploads: sizes, counts, types and names. Pure.

A name is only a label and never part of a path: objects are stored under keys chosen by the hub. Types that a browser
executes are refused under any name.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Final

from hub.config import Settings
from hub.errors import ErrorDetail, HubError

GIB: Final = 1024**3
NAME_MAX_CHARACTERS: Final = 255
"""Maximum code points of a name (docs/events.md#file, `Text[255]`). Browsers shorten names for disks that allow fewer bytes."""
_MIME: Final = re.compile(
    r"[a-z0-9][a-z0-9!#$&^_.+-]{0,62}/[a-z0-9][a-z0-9!#$&^_.+-]{0,62}(\s*;[\x20-\x7e]*)?", re.IGNORECASE
)
REFUSED_TYPES: Final = frozenset({"text/html", "application/xhtml+xml"})
"""Types of documents whose scripts would run in the origin that serves them."""
INLINE_TYPES: Final = frozenset(
    {
        "image/png",
        "image/jpeg",
        "image/gif",
        "image/webp",
        "image/avif",
        "audio/mpeg",
        "audio/ogg",
        "audio/wav",
        "video/mp4",
        "video/webm",
        "application/pdf",
        "text/plain",
    }
)
"""Types that a browser may show in place; everything else is a download. SVG is not among them, because it can contain scripts."""
_RESERVED: Final = frozenset({".", ".."})
_FORBIDDEN_CATEGORIES: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
_BIDI: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """The limits of a hub.

    Attributes:
        file_max_bytes: maximum size of one file.
        tenant_max_bytes: maximum size of a tenant's files and open uploads together; 0 means no limit.
        open_max: maximum uploads of one user that are neither ready nor failed.
        types: allowed content types; `image/*` and `*/*` are patterns. `REFUSED_TYPES` are never allowed.
        life_s: seconds from the request until an incomplete upload fails as expired.
        url_life_s: seconds for which a signed URL is valid.
    """

    file_max_bytes: int = 5 * GIB
    tenant_max_bytes: int = 0
    open_max: int = 10
    types: tuple[str, ...] = ("*/*",)
    life_s: int = 24 * 3600
    url_life_s: int = 15 * 60

    def allows_type(self, mime: str) -> bool:
        """True if files of this type (without parameters) are accepted."""
        family = mime.partition("/")[0]
        return mime not in REFUSED_TYPES and any(t in {"*/*", f"{family}/*", mime} for t in self.types)

    def check(self, filename: str, size: int, mime: str) -> None:
        """Refuses a file that may not be uploaded.

        Raises:
            HubError: 4005: a bad name or a malformed type; 4017: the size or type is not accepted.
        """
        if (problem := name_problem(filename)) is not None:
            raise HubError(4005, "choose another file name", details=(ErrorDetail("filename", problem),))
        if _MIME.fullmatch(mime) is None:
            raise HubError(
                4005, "give the content type as type/subtype", details=(ErrorDetail("mime", "is not a content type"),)
            )
        if size > self.file_max_bytes:
            raise HubError(
                4017,
                f"a file may have at most {self.file_max_bytes} bytes",
                details=(ErrorDetail("size", "is too large"),),
            )
        if not self.allows_type(plain_type(mime)):
            raise HubError(
                4017, "files of this type are not accepted", details=(ErrorDetail("mime", "is not allowed"),)
            )


def plain_type(mime: str) -> str:
    """Returns the content type in lower case, without parameters."""
    return mime.partition(";")[0].strip().lower()


def name_problem(filename: str) -> str | None:
    """Returns the problem with a file name; None if there is none."""
    if not filename.strip() or filename in _RESERVED:
        return "is empty or names a folder"
    if "/" in filename or "\\" in filename:
        return "must not contain a slash or backslash"
    if any(unicodedata.category(letter) in _FORBIDDEN_CATEGORIES or letter in _BIDI for letter in filename):
        return "must not contain control or bidirectional format characters"
    if len(filename) > NAME_MAX_CHARACTERS:
        return f"must be at most {NAME_MAX_CHARACTERS} characters"
    return None


def limits_of(settings: Settings) -> UploadLimits:
    """Builds the limits of a node or worker from its settings."""
    types = tuple(one.strip().lower() for one in settings.upload_types.split(","))
    return UploadLimits(
        file_max_bytes=settings.upload_size_limit_bytes,
        tenant_max_bytes=settings.upload_tenant_limit_bytes,
        types=types,
    )
