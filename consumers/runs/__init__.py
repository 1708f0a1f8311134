"""Agent runs: their flow, segments, journal, and the reaper."""
