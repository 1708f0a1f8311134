"""The scenarios, one file for each kind."""
