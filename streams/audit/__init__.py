"""The audit of channels: events compared with their record in Redis and with the archive, proofs, lists."""
