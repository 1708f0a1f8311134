"""A conversation's title and settings, with the revision that `expected_revision` is compared to. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from projections.fields import broken, number, object_field
from projections.recorded import Recorded
from streams.json_bytes import JsonObject


@dataclass(slots=True)
class Settings:
    """What was configured.

    Attributes:
        title: None until one is set, and after it was reset.
        values: the other settings that are set.
        revision: raised by one with each `chat.configure` and each `chat.branch`, as the append script counts.
    """

    title: str | None = None
    values: JsonObject = field(default_factory=dict)
    revision: int = 0

    def configure(self, event: Recorded) -> None:
        """Carry out a `chat.configure`."""
        given = object_field(event, "settings")
        _check_title(event, given)
        self._merge(given)
        self.revision += 1

    def update(self, event: Recorded) -> bool:
        """Take over what a `conversation.updated` says, and whether it said anything new.

        The command it came of was folded before, so only a revision newer than ours does.
        """
        revision, changes = number(event, "revision"), object_field(event, "changes")
        given = changes.get("settings") or {}
        if not isinstance(given, dict):
            raise broken(event, "changes.settings must be an object")
        _check_title(event, changes)
        if revision <= self.revision:
            return False
        self._merge(given)
        if "title" in changes:
            self._merge({"title": changes["title"]})
        self.revision = revision
        return True

    def _merge(self, given: JsonObject) -> None:
        """Set what is given, reset what is null, leave the rest."""
        for name, value in given.items():
            if name == "title":
                self.title = value if isinstance(value, str) else None
            elif value is None:
                self.values.pop(name, None)
            else:
                self.values[name] = value


def _check_title(event: Recorded, holder: JsonObject) -> None:
    title = holder.get("title")
    if not (title is None or isinstance(title, str)):
        raise broken(event, "title must be a string")
