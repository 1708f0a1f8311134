"""Adapters that serve agents of other frameworks."""
