"""Other people's logs, read and appended as events. Knows nothing of the command line."""
