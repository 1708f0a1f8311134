"""Limits of uploads, case by case."""

from __future__ import annotations

import pytest

from hub.errors import HubError
from hub.uploads.limits import UploadLimits, name_problem


@pytest.mark.parametrize("name", [
    "../../etc/passwd", "a/b", "a\\b", "nul\x00byte", "line\nbreak",
    "a" * 256, "é" * 256, "gpj.\u202eexe", "\u2066x", "..", ".", "  ", "",
    "sep\u2028arator", "\ud800",
])  # fmt: skip # a case a row
def test_bad_names(name: str) -> None:
    """Paths, control and direction characters, names longer than 255 characters, however many bytes."""
    assert name_problem(name) is not None


@pytest.mark.parametrize(
    "name",
    [
        "report.pdf",
        "Grüße aus Köln.png",
        "日本語.txt",
        "a" * 255,
        "é" * 255,
        "😀" * 255,
        ".env",
        "..hidden",
        "👩‍💻.txt",
    ],
)
def test_good_names(name: str) -> None:
    """Everything else is a name, in any script."""
    assert name_problem(name) is None


@pytest.mark.parametrize(("size", "mime", "code", "field"), [
    (10**15, "image/png", 4017, "size"),
    (1, "text/html", 4017, "mime"),
    (1, "Text/HTML; charset=utf-8", 4017, "mime"),
    (1, "application/xhtml+xml", 4017, "mime"),
    (1, "nonsense", 4005, "mime"),
    (1, "image/png\r\nX-Injected: 1", 4005, "mime"),
])  # fmt: skip # a case a row
def test_refusals(size: int, mime: str, code: int, field: str) -> None:
    """Each refusal has its code and names its field."""
    with pytest.raises(HubError) as raised:
        UploadLimits().check("a.bin", size, mime)

    assert raised.value.row.code == code
    assert [problem.field for problem in raised.value.details] == [field]


def test_bad_name_is_4005() -> None:
    """A name is checked before anything else, and not repeated in the answer."""
    with pytest.raises(HubError) as raised:
        UploadLimits().check("../x", 10**15, "text/html")

    assert raised.value.row.code == 4005
    assert "../x" not in raised.value.message
