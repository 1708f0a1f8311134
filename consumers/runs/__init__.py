"""Agent runs: their transitions, segments, journal, and the reaper."""
