"""The log: channels, cursors, envelopes, the event catalogue, append, tail, replay.

Knows no socket, no HTTP, no permission, no job and no agent. Imports nothing of ours.
"""
