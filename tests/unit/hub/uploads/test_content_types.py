"""Types of files by their first bytes, and those they may not pretend to be."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile

import pytest

from hub.uploads.content_types import UNKNOWN, contradicts, detect


def zip_of(name: str, content: str = "x") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def tar_of(name: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    return buffer.getvalue()


@pytest.mark.parametrize(("head", "expected"), [
    (b"\x89PNG\r\n\x1a\n" + bytes(20), "image/png"),
    (b"\xff\xd8\xff\xe0" + bytes(20), "image/jpeg"),
    (b"GIF89a" + bytes(20), "image/gif"),
    (b"RIFF" + struct.pack("<I", 99) + b"WEBPVP8 ", "image/webp"),
    (b"RIFF" + struct.pack("<I", 99) + b"WAVEfmt ", "audio/wav"),
    (struct.pack(">I", 24) + b"ftypisom", "video/mp4"),
    (struct.pack(">I", 24) + b"ftypavif", "image/avif"),
    (b"%PDF-1.7\n", "application/pdf"),
    (zip_of("a.txt"), "application/zip"),
    (zip_of("word/document.xml"), "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    (zip_of("mimetype", "application/epub+zip"), "application/epub+zip"),
    (tar_of("a.txt")[:512], "application/x-tar"),
    (b"\x7fELF" + bytes(20), "application/x-executable"),
    (b"<!DOCTYPE html><p>hi", "text/html"),
    (b"\xef\xbb\xbf  <!-- a --> <!-- b --><ScRiPt>alert(1)</script>", "text/html"),
    (b"<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'>", "application/xhtml+xml"),
    (b"<?xml version='1.0'?><!-- x --><svg xmlns='http://www.w3.org/2000/svg'>", "image/svg+xml"),
    (b"<?xml version='1.0'?><feed/>", "application/xml"),
    (b"# Title\n<p>Markdown", "text/plain"),
    (b"<p align=center>a README's first line", "text/plain"),
    ("Grüße".encode(), "text/plain"),
    ("é".encode()[:1], "text/plain"),
    (b"a\x00b", UNKNOWN),
    (b"\xfe\xdc" * 50, UNKNOWN),
    (b"", UNKNOWN),
])  # fmt: skip # a case a row
def test_detect(head: bytes, expected: str) -> None:
    """A file is what its first bytes say."""
    assert detect(head) == expected


def test_many_comments_take_no_longer() -> None:
    """The prologue of markup is skipped in one pass: 4 KiB of comments without an end are quick (the test's timeout tells)."""
    assert detect((b"<!---->" * 600)[:4096]) == "text/plain"


@pytest.mark.parametrize(("declared", "detected", "expected"), [
    ("image/png", "text/html", True),
    ("image/png", "application/x-executable", True),
    ("image/png", "image/jpeg", False),
    ("image/png", UNKNOWN, False),
    ("audio/mp4", "video/mp4", False),
    ("image/svg+xml", "text/plain", False),
    ("application/pdf", "text/plain", True),
    ("application/octet-stream", "image/png", False),
    ("text/csv", "text/plain", False),
    ("application/vnd.ms-excel", "application/zip", False),
])  # fmt: skip # a case a row
def test_contradicts(declared: str, detected: str, expected: bool) -> None:
    """Only what is surely something else is a contradiction."""
    assert contradicts(declared, detected) is expected
