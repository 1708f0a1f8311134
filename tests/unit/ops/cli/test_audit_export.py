"""Rows of an export: an erased event is told apart from one with an empty payload, in every format."""

from __future__ import annotations

import json
from io import BytesIO

import pyarrow.parquet
import pytest

from ops.cli.audit_export import ExportFormat, writer_to
from streams.channel import parse_channel
from streams.envelope import Entry

PLACE = parse_channel("acme", "conversation:clinic")
KEPT = Entry(b"1795797524329-0", 1, b"chat.message", b"1", b'{"kind":"user","id":"maria"}', b"{}", b"{}")
ERASED = KEPT._replace(id=b"1795797524329-1", seq=2, is_erased=True)


def exported(form: ExportFormat) -> bytes:
    file = BytesIO()
    writer = writer_to(file, form)
    for entry in (KEPT, ERASED):
        writer.write(PLACE, entry)
    writer.finish()
    return file.getvalue()


@pytest.mark.parametrize("form", [ExportFormat.JSONL, ExportFormat.CLOUDEVENTS])
def test_a_line_says_so(form: ExportFormat) -> None:
    lines = [json.loads(line) for line in exported(form).splitlines()]

    assert [line.get("erased") for line in lines] == [None, True]


def test_a_table_has_no_payload_for_it() -> None:
    rows = exported(ExportFormat.CSV).decode().splitlines()
    table = pyarrow.parquet.read_table(BytesIO(exported(ExportFormat.PARQUET)))

    assert [row.rpartition(",")[2] for row in rows[1:]] == ["{}", ""]
    assert table.column("payload").to_pylist() == ["{}", None]
