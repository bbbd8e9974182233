"""The `incidents` section: where the history of incidents is kept, and for how long.

Not inside: the store (`connectors.incident_store`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qs, urlsplit

from pydantic import Field, SecretStr, field_validator

from streamer.config.section import Duration, Section, TopicName, is_loopback

_SQLITE, _POSTGRESQL = "sqlite:", "postgresql:"
_OPTIONS = {"sslmode", "sslrootcert", "sslcert", "sslkey"}  # of libpq that a URL may have
_ENCRYPTED = {"require", "verify-ca", "verify-full"}


class IncidentsConfig(Section):
    """Incidents and what people did about them (docs/incidents.md)."""

    store: str | None = None  # sqlite:PATH or postgresql://USER@HOST/DATABASE; none: commands read the topics each time
    password: SecretStr | None = None  # of the database's user; environment or file only
    actions_topic: TopicName | None = None  # of acknowledgements, comments, verdicts; none: "<topic>.actions"
    keep_for: Annotated[Duration, Field(ge=3600)] = 7_776_000.0  # resolved incidents, since the last record about them
    keep_at_most_mb: Annotated[int, Field(ge=1, le=1_000_000)] = 1000  # of alerts; the oldest resolved ones go first

    @field_validator("store")
    @classmethod
    def _known(cls, store: str | None) -> str | None:
        if store is None or (store.startswith(_SQLITE) and store.removeprefix(_SQLITE).strip("/ ")):
            return store
        if not _is_server(store):
            got = "something with a login in it" if "@" in store else repr(store)
            raise ValueError(
                "wanted sqlite:PATH or postgresql://USER@HOST/DATABASE, such as sqlite:incidents.db, relative to "
                f"state.directory; got {got}; a password is set by STREAMER_INCIDENTS__PASSWORD_FILE"
            )
        return store

    @property
    def path(self) -> Path | None:
        """The file as it is given, if there shall be one."""
        kept_in_file = self.store is not None and self.store.startswith(_SQLITE)
        return Path(self.store.removeprefix(_SQLITE)) if self.store is not None and kept_in_file else None

    @property
    def url(self) -> str | None:
        """The server's database, if there shall be one."""
        return self.store if self.store is not None and self.path is None else None

    @property
    def exposed(self) -> bool:
        """Whether alerts and password would cross a network unencrypted."""
        if self.url is None:
            return False
        found = urlsplit(self.url)
        return not is_loopback(found.hostname or "") and not _ENCRYPTED & set(parse_qs(found.query).get("sslmode", ()))

    def secret(self) -> str | None:
        """The password as it is now."""
        return None if self.password is None else self.password.get_secret_value()


def _is_server(store: str) -> bool:
    try:
        found = urlsplit(store)
        options = parse_qs(found.query, strict_parsing=bool(found.query))
        _ = found.port
    except ValueError:
        return False
    named = store.startswith(f"{_POSTGRESQL}//") and found.hostname and found.path.strip("/")
    return bool(named) and found.password is None and options.keys() <= _OPTIONS and not found.fragment
