"""The archive of the log: segments in an object store, the Merkle trees over every event, and the reader that crosses into it."""
