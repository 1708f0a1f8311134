"""Imports of other logs as events, without the command line."""
