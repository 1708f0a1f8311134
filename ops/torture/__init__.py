"""The torture checker: clients are cut and nodes are killed while real logs are imported; nothing may be lost."""
