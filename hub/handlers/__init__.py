"""What a client may do: one class per command family. A handler decides; it touches no socket and no Redis."""
