"""How a file is served: under which type, in place or as a download, under which name (RFC 6266). Pure."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

from hub.storage.store import Download
from hub.uploads.content_types import UNKNOWN
from hub.uploads.limits import INLINE_TYPES, REFUSED_TYPES, plain_type
from streams.records.upload_record import Upload

_NOT_PLAIN: Final = re.compile(r"[^A-Za-z0-9!#$&+.^_`|~ ()\[\],;=@-]")
"""What old clients cannot read in the quoted name; they get an underscore, all others the whole name by `filename*`."""


def presentation(upload: Upload, disposition: str) -> Download:
    """How to serve a file that is ready.

    In place only when that was asked for, the bytes were seen to be of a type that is on the inline list, and their sender
    did not call them something else. Everything else is a download, and never under a type that runs in a browser.
    """
    declared, detected = plain_type(upload.mime), upload.detected
    is_text = detected == "text/plain" and declared.startswith("text/")
    if disposition == "inline" and detected in INLINE_TYPES and (declared == detected or is_text):
        return Download(
            content_disposition("inline", upload.filename), "text/plain; charset=utf-8" if is_text else detected
        )
    mime = declared if declared not in REFUSED_TYPES else UNKNOWN
    return Download(content_disposition("attachment", upload.filename), mime)


def content_disposition(kind: str, filename: str) -> str:
    """The header's value."""
    plain = _NOT_PLAIN.sub("_", filename)
    value = f'{kind}; filename="{plain}"'
    return value if plain == filename else f"{value}; filename*=UTF-8''{quote(filename, safe='')}"
