"""Adapters that serve models and agents of other frameworks."""
