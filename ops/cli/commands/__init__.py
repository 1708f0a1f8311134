"""One file a command. See `ops.cli`."""
