"""Which projections a channel of each kind has: their fields together are the D part of its `ChannelState`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from projections.agent_runs import AGENT_RUNS
from projections.conversation import CONVERSATION
from projections.documents import DOCUMENTS
from projections.notifications import NOTIFICATIONS
from projections.projection import PartSource
from projections.teams import TEAMS
from projections.tool_calls import TOOL_CALLS
from projections.uploads import UPLOADS
from streams.channel import Kind

CATALOGUE: Final[Mapping[Kind, tuple[PartSource, ...]]] = MappingProxyType({
    Kind.CONVERSATION: (CONVERSATION, AGENT_RUNS, TOOL_CALLS, UPLOADS),
    Kind.AGENT: (CONVERSATION, AGENT_RUNS, TOOL_CALLS, UPLOADS),
    Kind.TEAM: (TEAMS, UPLOADS),
    Kind.DOCUMENT: (DOCUMENTS, UPLOADS),
    Kind.USER: (NOTIFICATIONS,),
})  # fmt: skip
"""Kind of channel → its projections, in the order their fields are rendered. Where two want one event, the one that asks
more of it stands first, so that a broken event changes neither."""
