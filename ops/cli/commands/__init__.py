"""The commands, one file each. See `ops.cli`."""
