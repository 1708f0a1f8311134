"""Mints tokens from the settings of a hub: what `hub token` and the development mode print."""

from __future__ import annotations

from hub.auth.signing import parse_grant, parse_grants, sign

__all__ = ["parse_grant", "parse_grants", "sign"]
