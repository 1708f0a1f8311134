"""Reactions: what happens after an event is in the log."""
