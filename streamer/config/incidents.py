"""The `incidents` section: where the history of incidents is kept, and for how long.

Not inside: the store (`connectors.incident_store`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from streamer.config.section import Duration, Section, TopicName

_SQLITE = "sqlite:"


class IncidentsConfig(Section):
    """Incidents and what people did about them (docs/incidents.md)."""

    store: str | None = None  # sqlite:PATH, relative to state.directory; none: commands read the topics each time
    actions_topic: TopicName | None = None  # of acknowledgements, comments, verdicts; none: "<topic>.actions"
    keep_for: Annotated[Duration, Field(ge=3600)] = 7_776_000.0  # resolved incidents, since the last record about them
    keep_at_most_mb: Annotated[int, Field(ge=1, le=1_000_000)] = 1000  # of alerts; the oldest resolved ones go first

    @field_validator("store")
    @classmethod
    def _known(cls, store: str | None) -> str | None:
        if store is not None and not (store.startswith(_SQLITE) and store.removeprefix(_SQLITE).strip("/ ")):
            got = "something with a login in it" if "@" in store else repr(store)
            raise ValueError(f"wanted sqlite:PATH, such as sqlite:incidents.db; got {got}")
        return store

    @property
    def path(self) -> Path | None:
        """The file as it is given, if there shall be one."""
        return None if self.store is None else Path(self.store.removeprefix(_SQLITE))
