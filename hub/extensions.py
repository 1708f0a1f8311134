"""Loads the schemas of custom events (HUB_EVENT_SCHEMAS), the custom projections (HUB_PROJECTIONS) and the rollout's provider."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from hub.config import Settings
from hub.rollout import Provider, provider_at
from projections.own import OwnProjection, OwnProjections
from streams.events.custom import ANY_OWN, OwnEvents, read_schemas
from streams.import_paths import ImportRefused, object_at


class Extensions(NamedTuple):
    """The custom event types and projections, and the OpenFeature provider of HUB_ROLLOUT_PROVIDER."""

    events: OwnEvents
    projections: OwnProjections
    rollout_provider: Provider | None = None


def load_extensions(settings: Settings) -> Extensions:
    """Reads the schemas and imports the projections that the settings name.

    Raises:
        SchemasRefused, ImportRefused: one of them cannot be used.
    """
    provider = None if settings.rollout_provider is None else provider_at(settings.rollout_provider)
    events = ANY_OWN if settings.event_schemas is None else read_schemas(Path(settings.event_schemas))
    named: dict[str, OwnProjection] = {}
    for spec in settings.projections:
        found = object_at(spec.path)
        if not isinstance(found, OwnProjection):
            raise ImportRefused(
                f"projection {spec.name}: {spec.path} must be a function below `@projects(…)` of projections.own"
            )
        named[spec.name] = found
    return Extensions(events, OwnProjections(named), provider)
