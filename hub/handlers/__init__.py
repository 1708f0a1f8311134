"""The commands of clients: one class per family. A handler decides; it sees the node and the connection only as ports."""
