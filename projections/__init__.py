"""State from events: pure folds and their snapshots, which give a channel's state after any seq.

Nothing here reads a log, a clock or the network: callers supply the events, and the current time where it is needed.
"""
