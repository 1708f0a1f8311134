"""The handlers, one file for each event family; each reacts to stored events."""
