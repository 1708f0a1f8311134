"""A tenant's quotas: each bound alone, other nodes' counts, nothing left behind."""

from __future__ import annotations

import pytest

from hub.errors import HubError
from hub.limits.quotas import REPORT_LIFE_S, Quota, Quotas, TenantUsage

SMALL = Quota(connections=2, channels=2, publishes_per_s=1, bytes_stored=100)


def code(call: object, *args: object) -> int:
    assert callable(call)
    with pytest.raises(HubError) as caught:
        call(*args)
    return caught.value.row.code


def test_each_bound_is_refused_by_its_code_and_another_tenant_has_its_own() -> None:
    """Connections 4010, channels 4015, publish rate 4004, bytes 4011."""
    quotas = Quotas(SMALL)
    for _ in range(2):
        quotas.open_connection("acme")
        quotas.open_channel("acme")
    for _ in range(10):
        quotas.publish("acme", 10, 0.0)

    assert code(quotas.open_connection, "acme") == 4010
    assert code(quotas.open_channel, "acme") == 4015
    assert code(quotas.publish, "acme", 10, 0.0) == 4011
    assert code(quotas.publish, "acme", 0, 0.0) == 4004
    for _ in range(2):
        quotas.open_connection("other")
        quotas.open_channel("other")
        quotas.publish("other", 50, 0.0)


def test_a_refusal_counts_nothing() -> None:
    """After refusals one closed connection makes room for exactly one."""
    quotas = Quotas(SMALL)
    quotas.open_connection("acme")
    quotas.open_connection("acme")
    for _ in range(5):
        assert code(quotas.open_connection, "acme") == 4010

    quotas.close_connection("acme")
    quotas.open_connection("acme")
    assert code(quotas.open_connection, "acme") == 4010


def test_removed_bytes_make_room() -> None:
    """Deleting gives storage back."""
    quotas = Quotas(SMALL)
    quotas.note_stored("acme", 100)
    assert code(quotas.publish, "acme", 1, 0.0) == 4011

    quotas.note_stored("acme", -50)
    quotas.publish("acme", 50, 0.0)


def test_shared_total_keeps_what_was_stored_since_the_report() -> None:
    """Bytes stored between report and answer are not lost from the count."""
    quotas = Quotas(SMALL)
    quotas.note_stored("acme", 10)
    assert quotas.drain_bytes() == {"acme": 10}
    quotas.note_stored("acme", 5)

    quotas.note_total("acme", 90)

    assert code(quotas.publish, "acme", 6, 0.0) == 4011
    assert quotas.drain_bytes() == {"acme": 5}
    quotas.restore_bytes({"acme": 5})
    assert quotas.drain_bytes() == {"acme": 5}


def test_dead_nodes_stop_counting() -> None:
    """A node that no longer reports holds nothing, once any other reports."""
    quotas = Quotas(SMALL)
    quotas.note_report("b", {"acme": TenantUsage(connections=2)}, 0.0)
    assert code(quotas.open_connection, "acme") == 4010

    quotas.note_report("c", {}, REPORT_LIFE_S + 1)
    quotas.open_connection("acme")


def test_only_bounded_counts_are_reported_and_closed_ones_forgotten() -> None:
    """Reports stay as small as what is bounded."""
    unbounded, quotas = Quotas(Quota(bytes_stored=100)), Quotas(SMALL)
    unbounded.open_connection("acme")
    quotas.open_connection("acme")
    assert unbounded.usage() == {}
    assert quotas.usage() == {"acme": TenantUsage(1, 0)}

    quotas.close_connection("acme")
    assert quotas.usage() == {}
