"""Content types: detected from a file's first bytes, and the headers with which a file is served. Pure.

A small table of our own: the types common in chats, and those that must not be served as another type. Sources: RFC
8794 and the specifications of the formats; for HTML the pattern table of WHATWG "MIME Sniffing"; RFC 6266 for the
name of a download.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

from hub.storage.store import Download
from hub.uploads.limits import INLINE_TYPES, REFUSED_TYPES, plain_type
from streams.records.uploads import UploadRecord

SNIFFED_BYTES: Final = 4096
"""Bytes examined: the signature of tar is at offset 257, an MP4's brand at 8, and text needs a sample."""
UNKNOWN: Final = "application/octet-stream"
_ZIP: Final = "application/zip"
_MAGIC: Final = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"),
    (0, b"BM", "image/bmp"),
    (0, b"II*\x00", "image/tiff"),
    (0, b"MM\x00*", "image/tiff"),
    (0, b"\x00\x00\x01\x00", "image/x-icon"),
    (0, b"8BPS", "image/vnd.adobe.photoshop"),
    (0, b"%PDF-", "application/pdf"),
    (0, b"PK\x03\x04", _ZIP),
    (0, b"PK\x05\x06", _ZIP),
    (0, b"\x1f\x8b", "application/gzip"),
    (0, b"BZh", "application/x-bzip2"),
    (0, b"\xfd7zXZ\x00", "application/x-xz"),
    (0, b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (0, b"Rar!\x1a\x07", "application/vnd.rar"),
    (0, b"\x28\xb5\x2f\xfd", "application/zstd"),
    (257, b"ustar", "application/x-tar"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"fLaC", "audio/flac"),
    (0, b"OggS", "audio/ogg"),
    (0, b"\x1aE\xdf\xa3", "video/webm"),
    (0, b"\x00asm", "application/wasm"),
    (0, b"\x7fELF", "application/x-executable"),
    (0, b"MZ", "application/vnd.microsoft.portable-executable"),
    (0, b"\xcf\xfa\xed\xfe", "application/x-mach-binary"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage"),
    (0, b"SQLite format 3\x00", "application/vnd.sqlite3"),
    (0, b"wOF2", "font/woff2"),
    (0, b"wOFF", "font/woff"),
)
"""Signatures: (offset, bytes, type). Two bytes are weak evidence, so such rows come last."""
_RIFF: Final = {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo"}
_BRANDS: Final = {b"avif": "image/avif", b"heic": "image/heic", b"M4A ": "audio/mp4", b"qt  ": "video/quicktime"}
_OFFICE: Final = (
    (b"word/", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    (b"xl/", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    (b"ppt/", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
)
_OPEN_DOCUMENT: Final = re.compile(rb"mimetype(application/(?:vnd\.oasis\.opendocument\.[a-z]+|epub\+zip))")
_HTML: Final = re.compile(rb"<(?:!doctype\s+html|html|head|script|iframe|body|title|style)(?=[\s>/])", re.IGNORECASE)
"""The unambiguous tags of WHATWG's table. Others (`<p>`, `<a>`, `<h1>`) begin many Markdown files."""
_SVG: Final = re.compile(rb"<svg[\s>]", re.IGNORECASE)
_PROLOGUE: Final = ((b"<!--", b"-->"), (b"<?xml", b"?>"), (b"<!doctype svg", b">"))
_CONTROL: Final = bytes(set(range(32)) - {9, 10, 12, 13, 27})
_FTYP: Final = slice(4, 8)
_BRAND: Final = slice(8, 12)


def detect(head: bytes) -> str:
    """Returns the content type of a file that begins with `head` (at most 4,096 bytes of it); octet-stream if none matches."""
    if not head:
        return UNKNOWN
    return _container(head) or _magic(head) or _text(head) or UNKNOWN


def _container(head: bytes) -> str | None:
    if head[:4] == b"RIFF":
        return _RIFF.get(head[_BRAND])
    if head[_FTYP] == b"ftyp":
        return _BRANDS.get(head[_BRAND], "video/mp4")
    return None


def _magic(head: bytes) -> str | None:
    for at, mark, found in _MAGIC:
        if head.startswith(mark, at):
            return _inside_zip(head) if found == _ZIP else found
    return None


def _inside_zip(head: bytes) -> str:
    if (document := _OPEN_DOCUMENT.search(head)) is not None:
        return document.group(1).decode()
    return next((found for name, found in _OFFICE if name in head), _ZIP)


def _text(head: bytes) -> str | None:
    if head.translate(None, _CONTROL) != head:
        return None
    if (markup := _markup(head)) is not None:
        return markup
    try:
        head.decode()
    except UnicodeDecodeError as error:
        if error.end < len(head) - 3:  # otherwise the sample ends inside a character
            return None
    return "text/plain"


def _markup(head: bytes) -> str | None:
    """Detects markup. The prologue is skipped by hand, because a regular expression for it would backtrack without end."""
    rest = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    is_xml = rest.startswith(b"<?xml")
    while (end := _prologue_end(rest)) is not None:
        rest = rest[end:].lstrip()
    if _HTML.match(rest):
        return "application/xhtml+xml" if is_xml else "text/html"
    if _SVG.match(rest):
        return "image/svg+xml"
    return "application/xml" if is_xml else None


def _prologue_end(text: bytes) -> int | None:
    """Returns the end of the comment or declaration that `text` begins with; None if it begins with neither."""
    for opening, closing in _PROLOGUE:
        if text[: len(opening)].lower() == opening:
            found = text.find(closing, len(opening))
            return len(text) if found < 0 else found + len(closing)
    return None


def contradicts(declared: str, detected: str) -> bool:
    """True if a file is certainly not of its declared type: declared as image, audio, video or PDF, but detected as another type.

    Only types whose files all have a signature are compared. Others often have several correct types (a .docx is
    a zip, source code is text), so they are not refused.
    """
    family = declared.partition("/")[0]
    if declared == "application/pdf":
        return detected != declared
    if family in {"image", "audio", "video"} and detected != UNKNOWN:
        sound_or_film = {"audio", "video"}
        detected_family = detected.partition("/")[0]
        if family in sound_or_film and detected_family in sound_or_film:
            return False
        return detected_family != family and not (
            declared == "image/svg+xml" and detected in {"application/xml", "text/plain"}
        )
    return False


_NOT_PLAIN: Final = re.compile(r"[^A-Za-z0-9!#$&+.^_`|~ ()\[\],;=@-]")
"""Characters that old clients cannot read in the quoted name, replaced by an underscore; `filename*` has the full name."""


def presentation(upload: UploadRecord, disposition: str) -> Download:
    """Returns the headers with which a ready file is served.

    It is shown in place only if that was requested, the detected type is on the inline list, and the declared
    type agrees. Otherwise it is a download, and never of a type that a browser executes.
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
    """Returns the value of the header."""
    plain = _NOT_PLAIN.sub("_", filename)
    value = f'{kind}; filename="{plain}"'
    return value if plain == filename else f"{value}; filename*=UTF-8''{quote(filename, safe='')}"
