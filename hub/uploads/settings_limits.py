"""What a hub accepts, by its settings. Pure."""

from __future__ import annotations

from hub.config import Settings
from hub.uploads.limits import UploadLimits


def limits_of(settings: Settings) -> UploadLimits:
    """The limits of a node or worker."""
    types = tuple(one.strip().lower() for one in settings.upload_types.split(","))
    return UploadLimits(
        file_max_bytes=settings.upload_size_limit_bytes,
        tenant_max_bytes=settings.upload_tenant_limit_bytes,
        types=types,
    )
