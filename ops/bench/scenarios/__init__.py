"""The scenarios, one file a kind."""
