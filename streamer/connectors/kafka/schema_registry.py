"""Schemas from a Confluent schema registry, as functions that read messages.

The confluent client asks the registry; fastavro, msgspec and protobuf read what the schemas describe. Schemas never
change under their number, so each is asked for once. Inside: `SchemaRegistry`, `open_schemas`. Not inside: the frame
that the number stands in (`formats.framed`), when to ask again (`runtime`).
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from streamer.config import Settings
from streamer.errors import ConfigError, SchemasUnavailable
from streamer.formats import framed
from streamer.formats.rejects import UNKNOWN_SCHEMA, Refused

if TYPE_CHECKING:
    from streamer.config import SchemaRegistryConfig

Reader = Callable[[bytes], Any]

MOST_KEPT = 1000  # schemas
ASK_AGAIN_S = 30.0  # after which a number that was unknown may be known
_MOST_REFERENCES = 100
# Codes of the registry itself; another server's 404, such as a proxy's, says nothing of schemas.
_NOT_FOUND = (40401, 40402, 40403, 42202)


class SchemaRegistry:
    """Finds schemas by number, and keeps them.

    Args:
        config: Where the registry is.
        kind: What it must call the schemas: AVRO, JSON or PROTOBUF.
        clock: Seconds, for how long an unknown number stays unknown.

    Raises:
        ConfigError: A package is missing, or the registry's certificates cannot be read.
    """

    def __init__(self, config: SchemaRegistryConfig, kind: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        try:
            from confluent_kafka.schema_registry import SchemaRegistryClient, SchemaRegistryError
        except ImportError as error:
            raise ConfigError(
                f"records.format needs packages that are missing ({error}): pip install 'streamer[schema-registry]'"
            ) from None
        self._refusal = SchemaRegistryError
        self._config, self._kind, self._clock = config, kind, clock
        self._readers: OrderedDict[int, Reader] = OrderedDict()
        self._unknown: dict[int, tuple[float, Refused]] = {}
        options: dict[str, Any] = {"url": config.url, "timeout": config.timeout_s, "max.retries": 0}
        if config.username is not None and config.password is not None:
            options["basic.auth.user.info"] = f"{config.username}:{config.password.get_secret_value()}"
        if config.ca_file is not None:
            options["ssl.ca.location"] = str(config.ca_file)
        try:
            self._client = SchemaRegistryClient(options)
        except (OSError, ValueError) as error:
            raise ConfigError(f"schema_registry: {error}") from None

    def reader(self, schema_id: int) -> Reader:
        """See `formats.interface.Schemas`."""
        reader = self._readers.get(schema_id)
        if reader is not None:
            return reader
        until_s, refused = self._unknown.get(schema_id, (0.0, None))
        if refused is not None and self._clock() < until_s:
            raise refused
        try:
            reader = self._made(schema_id)
        except Refused as refusal:
            if len(self._unknown) >= MOST_KEPT:
                self._unknown.clear()
            self._unknown[schema_id] = (self._clock() + ASK_AGAIN_S, refusal)
            raise
        self._readers[schema_id] = reader
        if len(self._readers) > MOST_KEPT:
            self._readers.popitem(last=False)
        return reader

    def _made(self, schema_id: int) -> Reader:
        serialized = "serialized" if self._kind == "PROTOBUF" else None
        schema = self._ask(f"schema {schema_id}", lambda: self._client.get_schema(schema_id, fmt=serialized))
        if schema.schema_type != self._kind:
            wanted = next(name for name, kind in framed.FORMATS.items() if kind == self._kind)
            raise Refused(
                UNKNOWN_SCHEMA, f"schema {schema_id} is of type {schema.schema_type}; records.format says {wanted}"
            )
        try:
            if self._kind == "JSON":
                return msgspec.json.decode
            references = self._references(schema, serialized)
            if self._kind == "AVRO":
                from streamer.connectors.kafka.avro_schemas import avro_reader

                return avro_reader(schema_id, schema.schema_str, list(references.values()))
            from streamer.connectors.kafka.protobuf_schemas import protobuf_reader

            return protobuf_reader(schema_id, schema.schema_str, references)
        except (Refused, SchemasUnavailable, ConfigError):
            raise
        except Exception as error:  # whatever parsers raise for schemas that are none
            raise Refused(
                UNKNOWN_SCHEMA, f"schema {schema_id} cannot be used: {type(error).__name__}: {error}"
            ) from None

    def _references(self, schema: Any, fmt: str | None) -> dict[str, str]:
        """Schemas that one is made of, by the name it uses for them; what others need comes before them."""
        found: dict[str, str] = {}

        def follow(one: Any, depth: int) -> None:
            for reference in one.references or ():
                if reference.name in found:
                    continue
                if depth > _MOST_REFERENCES or len(found) > _MOST_REFERENCES:
                    raise ValueError(f"it refers to more than {_MOST_REFERENCES} others")
                what = f"version {reference.version} of {reference.subject}"
                registered = self._ask(
                    what,
                    lambda r=reference: self._client.get_version(r.subject, r.version, fmt=fmt),  # type: ignore[misc]
                )
                follow(registered.schema, depth + 1)
                found[reference.name] = registered.schema.schema_str

        follow(schema, 0)
        return found

    def _ask(self, what: str, ask: Callable[[], Any]) -> Any:
        """The registry's answer.

        Raises:
            Refused: It says that it has no such schema.
            SchemasUnavailable: It says anything else, or nothing.
        """
        try:
            answer = ask()
        except self._refusal as error:
            if error.error_code in _NOT_FOUND:
                raise Refused(UNKNOWN_SCHEMA, f"the schema registry has no {what}: {error.error_message}") from None
            raise SchemasUnavailable(
                f"schema registry {self._config.url} answered {error.http_status_code} when asked for {what}: "
                f"{error.error_message}; records wait until it answers"
            ) from None
        except Exception as error:  # of the HTTP library underneath, which is not ours to name
            raise SchemasUnavailable(
                f"schema registry {self._config.url} cannot be reached for {what}: {type(error).__name__}: {error}; "
                "records wait until it answers"
            ) from None
        text = (answer if hasattr(answer, "schema_str") else answer.schema).schema_str
        if len(text) > self._config.max_schema_bytes:
            raise Refused(
                UNKNOWN_SCHEMA,
                f"{what} has {len(text)} characters; at most schema_registry.max_schema_bytes "
                f"{self._config.max_schema_bytes}",
            )
        return answer


def open_schemas(settings: Settings) -> SchemaRegistry | None:
    """The registry that a configuration needs; None if its format needs none.

    Raises:
        ConfigError: A package is missing.
    """
    kind = framed.FORMATS.get(settings.records.format)
    return None if kind is None else SchemaRegistry(settings.schema_registry, kind)
