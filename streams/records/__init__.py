"""Records beside the log: runs, presence, leases, agents, uploads, read marks, snapshots and settings, kept by compare-and-set."""
