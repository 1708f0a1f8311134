"""Imports of other systems' logs as events, without the command line."""
