"""The sizes of all scenarios: the usual ones, `--quick` and `--full`, and changes by `--set`. Pure."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Final


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes, as `hub bench --list` explains them.

    Attributes:
        seconds: the length of each measured stretch.
        connections: clients of `connect`.
        clients: clients of `resume_own` and `resume_shared`.
        behind: events that each of them, and of `storm`, has missed.
        storm: clients of the killed node.
        jitter: clients of `jitter`.
        jitter_seconds: the length of `jitter`; a node is killed halfway.
        jitter_every: seconds between two cuts of a client.
        jitter_away: seconds a cut client stays away.
        idle: connections of `memory`.
        channels: channels of `channels`.
        replay: events of `cold_replay`, and of the long channel of `flood` and `cold_beside_live`.
        upload_mb: megabytes of `uploads`.
        answers: streamed answers at a time.
    """

    seconds: float = 4.0
    connections: int = 2_000
    clients: int = 1_000
    behind: int = 100
    storm: int = 2_000
    jitter: int = 500
    jitter_seconds: float = 40.0
    jitter_every: float = 15.0
    jitter_away: float = 2.0
    idle: int = 5_000
    channels: int = 100_000
    replay: int = 50_000
    upload_mb: int = 100
    answers: int = 100


USUAL: Final = Sizes()
QUICK: Final = Sizes(
    seconds=1.0,
    connections=300,
    clients=100,
    behind=50,
    storm=150,
    jitter=100,
    jitter_seconds=8.0,
    jitter_every=3.0,
    jitter_away=0.5,
    idle=500,
    channels=2_000,
    replay=2_000,
    upload_mb=10,
    answers=10,
)
FULL: Final = Sizes(
    seconds=5.0, connections=5_000, storm=5_000, jitter=2_000, jitter_seconds=90.0, idle=10_000, replay=500_000
)


def with_changes(sizes: Sizes, changes: list[str]) -> Sizes:
    """Apply each `name=value` to the sizes.

    Raises:
        ValueError: a name is unknown, or a value is not a number above 0; the text lists the known names.
    """
    known = {field.name: type(getattr(sizes, field.name)) for field in fields(sizes)}
    for change in changes:
        name, _, text = change.partition("=")
        if name not in known:
            raise ValueError(f"there is no size {name!r}; there are {', '.join(known)}")
        try:
            value = known[name](text)
        except ValueError:
            value = 0
        if value <= 0:
            raise ValueError(f"the size {name} must be a number above 0, such as {getattr(sizes, name)}")
        sizes = replace(sizes, **{name: value})
    return sizes
