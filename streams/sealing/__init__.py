"""Sealed payloads: encrypted by a key for each person, so that destroying the key erases what the person wrote."""
