"""Records stored beside the log: runs, presence, leases, agents, uploads, read marks, snapshots and settings.

They are changed by compare-and-set.
"""
