"""State from events: pure folds, snapshots, a channel as it is at any seq.

Nothing here reads a log, a clock or the network: callers bring the events, and the current time where it is needed.
"""
