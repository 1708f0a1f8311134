"""Adapters that let the hub serve models and agents of other frameworks."""
