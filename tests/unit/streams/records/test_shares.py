"""The share of a node in what any node may do."""

from __future__ import annotations

import pytest

from streams.records.presence import Share


@pytest.mark.parametrize("nodes", [1, 2, 3, 8, 50])
@pytest.mark.parametrize("partitions", [1, 8, 30])
def test_each_partition_is_one_nodes_and_another_ones_next(nodes: int, partitions: int) -> None:
    """None is left out, none looked at twice, and a node that is dead keeps none for itself."""
    before: dict[int, int] = {}
    for turn in range(1_000, 1_000 + nodes):
        owners = [(at, node) for node in range(nodes) for at in Share(node, nodes).partitions(partitions, turn)]
        assert sorted(at for at, _ in owners) == list(range(partitions))
        assert nodes == 1 or all(before.get(at) != node for at, node in owners)
        before = dict(owners)


def test_a_node_that_knows_of_no_other_looks_at_all() -> None:
    """As one does that has just started."""
    assert Share().partitions(8, 12_345) == list(range(8))
