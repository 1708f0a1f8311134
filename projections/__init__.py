"""State from events: pure folds, snapshots, what a channel looks like at any seq.

Nothing here reads a log, a clock or the network: callers bring the events, and the time where a live part needs one.
"""

from __future__ import annotations

from projections.channel_state import ChannelFold, ChannelState
from projections.errors import BrokenEvent, EventsMissing, PatchRefused, ProjectionError, SnapshotRefused
from projections.projection import DurableProjection, Projection, fold
from projections.recorded import Recorded, recorded

__all__ = [
    "BrokenEvent",
    "ChannelFold",
    "ChannelState",
    "DurableProjection",
    "EventsMissing",
    "PatchRefused",
    "Projection",
    "ProjectionError",
    "Recorded",
    "SnapshotRefused",
    "fold",
    "recorded",
]
