"""Real conversations: every imported message folded live and rebuilt."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.bench.fold import irc_logs, rebuild, through_snapshots

FOLDER = Path(__file__).parents[4] / "shared" / "data" / "irc"


@pytest.mark.slow
@pytest.mark.skipif(not FOLDER.is_dir(), reason=f"the IRC logs are not at {FOLDER}")
def test_a_rebuild_of_real_channels_gives_the_bytes_of_live_ones() -> None:
    """48,745 messages: shown and kept alike, whether folded in one go or as nodes come and go."""
    logs = irc_logs(FOLDER)
    rebuilt, live = rebuild(logs), [through_snapshots(log) for log in logs]

    assert [state.render() for state in rebuilt] == [state.render() for state in live]
    assert [state.dump() for state in rebuilt] == [state.dump() for state in live]
    assert sum(entry.type == b"chat.message" for log in logs for entry in log.entries) == 48_745
