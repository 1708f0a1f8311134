"""Loads the custom event types and projections that the settings name, for a command."""

from __future__ import annotations

import os
import sys

from hub.config import Settings
from hub.extensions import Extensions, load_extensions
from ops.cli.failure import EXIT_USAGE, CommandFailed
from streams.events.custom import SchemasRefused
from streams.import_paths import ImportRefused


def find_modules_here(settings: Settings) -> None:
    """Lets modules in the working directory be imported, if the settings name agents, handlers or projections."""
    if (settings.agents or settings.handlers or settings.projections) and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def extensions_of(settings: Settings) -> Extensions:
    """Loads the custom event types and projections of the settings.

    Raises:
        CommandFailed: one of them cannot be used.
    """
    find_modules_here(settings)
    try:
        return load_extensions(settings)
    except SchemasRefused as refused:
        raise CommandFailed(f"HUB_EVENT_SCHEMAS: {refused}", EXIT_USAGE) from refused
    except ImportRefused as refused:
        raise CommandFailed(f"HUB_PROJECTIONS: {refused}", EXIT_USAGE) from refused
