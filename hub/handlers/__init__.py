"""The commands of clients: one class a family. A handler decides; it knows its node and its connection by their ports only."""
