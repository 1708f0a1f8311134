"""Agents: what they are given, what they may use, and the demo agent."""
