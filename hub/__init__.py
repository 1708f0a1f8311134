"""The edge of the system: sockets, HTTP, authentication, limits, routing, fan-out, uploads, clients and the console.

`hub.embed` puts a hub into an application of your own. It is imported on first use, so that `hub.client` works without
the server's dependencies.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hub.embedding import Embedded, Identity, embed

__all__ = ["Embedded", "Identity", "embed"]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Imports a public name on first use."""
        if name not in __all__:
            raise AttributeError(f"module 'hub' has no attribute {name!r}")
        from hub import embedding

        return getattr(embedding, name)
