"""One file per event family: what happens after its events are stored."""
