"""Decides through OpenFeature who may use WebSocket and who has which variant.

The default provider answers from the rollouts that tenants have stored in `system:rollout`. HUB_ROLLOUT_PROVIDER names another one.
Each node registers its provider under a domain of its own, so that an application around the hub keeps its flags to itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import EventDetails, ProviderEvent
from openfeature.flag_evaluation import FlagResolutionDetails, FlagValueType, Reason
from openfeature.provider import AbstractProvider, FeatureProvider, Metadata
from openfeature.provider.no_op_provider import NoOpProvider

from projections.rollout import VARIANT, WEBSOCKET, Rollout
from streams.events.rollout import VARIANT_CHARS_MAX
from streams.import_paths import ImportRefused, object_at

TENANT: Final = "tenant"
USER: Final = "user"
Provider: TypeAlias = FeatureProvider
T = TypeVar("T")


class RolloutDecision(NamedTuple):
    """The flags of one user. `variant` is empty if they have none."""

    is_websocket_on: bool = True
    variant: str = ""


EVERYBODY: Final = RolloutDecision()
"""The decision where nothing was rolled out, and where a provider fails."""


class StoredRollouts(AbstractProvider):
    """Answers from the rollouts of tenants, as far as the node has read them."""

    def __init__(self) -> None:
        super().__init__()
        self.by_tenant: dict[str, Rollout] = {}

    def get_metadata(self) -> Metadata:
        """The provider's name."""
        return Metadata("system:rollout")

    def resolve_boolean_details(
        self, flag_key: str, default_value: bool, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[bool]:
        """Resolves the flag `websocket`."""
        rollout, tenant, user = self._asked(evaluation_context)
        if rollout is None or flag_key != WEBSOCKET:
            return _default(default_value)
        return FlagResolutionDetails(rollout.is_websocket_on(tenant, user), reason=Reason.SPLIT)

    def resolve_string_details(
        self, flag_key: str, default_value: str, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[str]:
        """Resolves the flag `variant`."""
        rollout, tenant, user = self._asked(evaluation_context)
        if rollout is None or flag_key != VARIANT:
            return _default(default_value)
        return FlagResolutionDetails(rollout.variant_of(tenant, user) or default_value, reason=Reason.SPLIT)

    def resolve_integer_details(
        self, flag_key: str, default_value: int, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[int]:
        """Returns the default: no flag is a number."""
        return _default(default_value)

    def resolve_float_details(
        self, flag_key: str, default_value: float, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[float]:
        """Returns the default: no flag is a number."""
        return _default(default_value)

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Sequence[FlagValueType] | Mapping[str, FlagValueType],
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Sequence[FlagValueType] | Mapping[str, FlagValueType]]:
        """Returns the default: no flag is an object."""
        return _default(default_value)

    def _asked(self, context: EvaluationContext | None) -> tuple[Rollout | None, str, str]:
        attributes: Mapping[str, Any] = context.attributes if context is not None else {}
        tenant, user = str(attributes.get(TENANT, "")), str(attributes.get(USER, ""))
        return self.by_tenant.get(tenant), tenant, user


def _default(value: T) -> FlagResolutionDetails[T]:
    return FlagResolutionDetails(value, reason=Reason.DEFAULT)


def provider_at(path: str) -> Provider:
    """Returns the provider that an import path names: an object, or what a class or a function returns.

    Raises:
        ImportRefused: there is none.
    """
    found = object_at(path)
    provider = found() if callable(found) else found
    if not isinstance(provider, AbstractProvider):
        raise ImportRefused(f"{path} must be an OpenFeature provider, or a function that returns one")
    return provider


class FeatureFlags:
    """The flags of one node's users.

    Args:
        domain: the name under which the provider is registered, unique in this process.
        provider: another provider than the default one.

    Attributes:
        stored: the default provider; None if another one decides.
    """

    def __init__(self, domain: str, provider: FeatureProvider | None = None) -> None:
        self.stored = StoredRollouts() if provider is None else None
        self._provider: FeatureProvider = provider or self.stored or NoOpProvider()
        self._domain = domain
        self._client: OpenFeatureClient | None = None
        self._tell: Callable[[EventDetails], None] | None = None

    @property
    def name(self) -> str:
        """The provider's name."""
        return self._provider.get_metadata().name

    async def open(self, changed: Callable[[], None]) -> None:
        """Initialises the provider; `changed` is called in the event loop when its flags have changed.

        Raises:
            Exception: the provider could not be initialised; until it is, every user has the defaults.
        """
        loop = asyncio.get_running_loop()

        def tell(_details: EventDetails) -> None:  # in a thread of OpenFeature's
            with contextlib.suppress(RuntimeError):  # the loop was closed
                loop.call_soon_threadsafe(changed)

        self._tell = tell
        self._client = api.get_client(self._domain)
        self._client.add_handler(ProviderEvent.PROVIDER_CONFIGURATION_CHANGED, tell)
        self._client.add_handler(ProviderEvent.PROVIDER_READY, tell)
        await asyncio.to_thread(api.set_provider_and_wait, self._provider, self._domain)

    def close(self) -> None:
        """Shuts the provider down, in a thread of OpenFeature's."""
        if self._client is not None and self._tell is not None:
            self._client.remove_handler(ProviderEvent.PROVIDER_CONFIGURATION_CHANGED, self._tell)
            self._client.remove_handler(ProviderEvent.PROVIDER_READY, self._tell)
            api.set_provider(NoOpProvider(), self._domain)
            self._client = None

    async def decide(self, tenant: str, user: str) -> RolloutDecision:
        """Returns the flags of a user; the defaults if the provider fails, which OpenFeature logs."""
        if self._client is None or (self.stored is not None and tenant not in self.stored.by_tenant):
            return EVERYBODY
        context = EvaluationContext(f"{tenant}/{user}", {TENANT: tenant, USER: user})
        is_on = await self._client.get_boolean_value_async(WEBSOCKET, True, context)
        variant = await self._client.get_string_value_async(VARIANT, "", context)
        return RolloutDecision(is_on, variant[:VARIANT_CHARS_MAX])
