"""The rules for checking a history, one file per subject. Each rule reads a `History` and adds findings to a `Verdict`."""
