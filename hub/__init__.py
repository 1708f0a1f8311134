"""The edge: sockets, HTTP, auth, permissions, limits, routing, fan-out, uploads, client SDKs, console.

This module imports nothing, so that `hub.client` works without the server's dependencies.
"""
