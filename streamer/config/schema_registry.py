"""The `schema_registry` section: where schemas of Avro, JSON Schema and Protobuf messages are.

Not inside: asking it (`connectors.kafka.schema_registry`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from streamer.config.section import Section


class SchemaRegistryConfig(Section):
    """Schema registry, for records.format avro, json-schema and protobuf; needs streamer[schema-registry]."""

    url: str | None = None  # e.g. https://registry:8081
    username: str | None = None  # login, if the registry asks for one
    password: SecretStr | None = None  # environment or file only
    ca_file: Path | None = None  # trusted CA certificates, PEM; none: the system's
    timeout_s: Annotated[float, Field(gt=0, le=60)] = 5.0  # of one request; a registry that is away is asked again
    max_schema_bytes: Annotated[int, Field(ge=64)] = 1_000_000  # records with a larger schema are dead-lettered

    @field_validator("url")
    @classmethod
    def _plain(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("wanted the registry's address, such as https://registry:8081")
        if parts.username or parts.password:
            raise ValueError("a login does not belong in the address; set username and password")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _whole_login(self) -> SchemaRegistryConfig:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password go together; set STREAMER_SCHEMA_REGISTRY__PASSWORD_FILE")
        return self

    @property
    def encrypted(self) -> bool:
        """Whether what is sent to it cannot be read on the way."""
        return self.url is None or self.url.startswith("https:")

    @property
    def host(self) -> str:
        """Name or address of the machine it is on."""
        return urlsplit(self.url or "").hostname or ""
