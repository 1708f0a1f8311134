"""Agents that ship with the hub: one to talk to without a model, and adapters for those with one."""
