"""Limits: rates, quotas, and admission of connections."""
