"""Where settings come from: one YAML file, the environment, and files the environment names.

Order, strongest first: environment (`STREAMER_KAFKA__TOPIC=...`), environment files
(`STREAMER_KAFKA__SASL_PASSWORD_FILE=/run/secrets/...`), the YAML file, defaults. Secrets
are refused in the YAML file, and so is a variable that lacks one of its two underscores. This is the only module that
reads `os.environ`.
"""

from __future__ import annotations

import os
from collections.abc import Set
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from streamer.config.files import FilesConfig
from streamer.config.kafka import KafkaConfig
from streamer.config.schema import SECRET_KEYS, Settings, is_secret
from streamer.config.schema_registry import SchemaRegistryConfig
from streamer.config.secrets import SecretFile
from streamer.config.section import Section
from streamer.config.sinks import SINK_SECRETS, SinksConfig, WebhookConfig
from streamer.config.wording import explain_all, kind_of
from streamer.errors import ConfigError

ENV_PREFIX = "STREAMER_"
_SINK_KEYS = WebhookConfig.model_fields
_S = TypeVar("_S", bound=Section)
_LISTS = {
    ("records", "features"),
    ("records", "zero_is_missing"),
    ("records", "columns"),
    ("files", "timestamp"),
    ("files", "missing"),
    ("time", "context"),
}


def load(path: Path | None, environ: dict[str, str] | None = None) -> Settings:
    """Read, merge and check the settings.

    Args:
        path: YAML file, or None for environment and defaults alone. Relative
            directories inside it are relative to the file.
        environ: Environment; `os.environ` when None.

    Raises:
        ConfigError: Unreadable file, unknown key, value out of bounds, a secret
            in the file. One line for each fault: key, wanted, got, where from.
    """
    environ = dict(os.environ) if environ is None else environ
    from_file = _without_secrets(path)
    from_env, sources = _read_environment(environ)
    merged = _merge(from_file, from_env)
    try:
        settings = Settings.model_validate(merged)
    except ValidationError as error:
        raise ConfigError(explain_all(error.errors(), path, sources)) from None
    return _resolve_paths(settings, path.parent if path else Path())


def load_connections(
    path: Path | None, environ: dict[str, str] | None = None, *, registry_url: str | None = None, **given: Any
) -> tuple[KafkaConfig, SchemaRegistryConfig]:
    """The sections `kafka` and `schema_registry` alone, where the others are yet to be found out.

    Args:
        path: YAML file, whose other sections are not looked at; or None.
        environ: Environment; `os.environ` when None.
        registry_url: What the command line says of `schema_registry.url`.
        given: What the command line says of `kafka`, stronger than both.

    Raises:
        ConfigError: As `load`.
    """
    environ = dict(os.environ) if environ is None else environ
    from_env, sources = _read_environment(environ)
    merged = _merge(_without_secrets(path), from_env)
    given = {key: value for key, value in given.items() if value is not None}
    registry = {} if registry_url is None else {"url": registry_url}
    whole = {
        "kafka": _merge(merged.get("kafka") or {}, given),
        "schema_registry": _merge(merged.get("schema_registry") or {}, registry),
        "records": {"features": ["any"]},
    }
    try:
        settings = Settings.model_validate(whole)
    except ValidationError as error:
        raise ConfigError(explain_all(error.errors(), path, sources)) from None
    settings = _resolve_paths(settings, path.parent if path else Path())
    return settings.kafka, settings.schema_registry


def load_files(path: Path | None, environ: dict[str, str] | None = None) -> FilesConfig:
    """The section `files` alone; as `load_connections`."""
    from_env, sources = _read_environment(dict(os.environ) if environ is None else environ)
    merged = _merge(_without_secrets(path), from_env)
    try:
        return Settings.model_validate({"files": merged.get("files") or {}, "records": {"features": ["any"]}}).files
    except ValidationError as error:
        raise ConfigError(explain_all(error.errors(), path, sources)) from None


def _without_secrets(path: Path | None) -> dict[str, Any]:
    """What the file says; a secret in it is refused."""
    from_file = _read_yaml(path) if path else {}
    for section, key in SECRET_KEYS:
        if isinstance(from_file.get(section), dict) and key in from_file[section]:
            variable = f"{ENV_PREFIX}{section}__{key}".upper()
            raise ConfigError(
                f"{section}.{key}: secrets do not belong in {path}; set {variable}_FILE to a file that holds it, "
                f"or {variable}"
            )
    _refuse_sink_secrets(from_file.get("sinks"), path)
    return from_file


def _refuse_sink_secrets(sinks: Any, path: Path | None) -> None:
    for kind, secrets in SINK_SECRETS.items():
        named = sinks.get(kind) if isinstance(sinks, dict) else None
        for name, sink in named.items() if isinstance(named, dict) else ():
            for key in secrets:
                if isinstance(sink, dict) and key in sink:
                    variable = f"{ENV_PREFIX}SINKS__{kind}__{name}__{key}".upper()
                    raise ConfigError(
                        f"sinks.{kind}.{name}.{key}: secrets do not belong in {path}; set {variable}_FILE to a file "
                        f"that holds it, or {variable}"
                    )


class _Loader(yaml.SafeLoader):
    """Plain data only; a key given twice is an error, where YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"{key.value!r} stands here twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--config: wanted a readable YAML file; {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"--config: wanted UTF-8 text; {path}: {error.reason} at byte {error.start}") from None
    try:
        data = yaml.load(text, _Loader)
    except (yaml.YAMLError, RecursionError) as error:
        # Only where and what kind: the text itself may hold a secret.
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it cannot be read"
        hint = "; indent with spaces, not tabs" if "'\\t'" in problem else ""
        raise ConfigError(f"--config: wanted valid YAML; {path}{where}: {problem}{hint}") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"--config: wanted sections such as `records:`; {path} holds {kind_of(data)}")
    return {section: {} if value is None else value for section, value in data.items()}


def _read_environment(environ: dict[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Settings in `STREAMER_SECTION__KEY[_FILE]`, and which variable each came from."""
    settings = _settings()
    _refuse_misnamed(environ, settings)
    found: dict[str, Any] = {}
    sources: dict[str, str] = {}
    # Plain variables come after files, so that they win.
    for name in sorted(environ, key=lambda name: (not name.endswith("_FILE"), name)):
        section, separator, key = name.removeprefix(ENV_PREFIX).lower().partition("__")
        if not name.startswith(ENV_PREFIX) or not separator:
            continue
        *above, key = key.split("__")  # a sink has a kind and a name: STREAMER_SINKS__ALERTMANAGER__OPS__TOKEN
        text: Any = environ[name]
        secret: SecretFile | None = None
        named = above and key in _SINK_KEYS
        if key.endswith("_file") and (section, key) not in settings and not named:  # `http.auth_file` is a setting
            key = key.removesuffix("_file")
            try:
                secret = SecretFile(Path(text))
                text = secret.get_secret_value()
            except (OSError, UnicodeDecodeError) as error:
                # Not what stands there: it may be the secret itself, put in the wrong variable.
                why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
                where = ".".join([section, *above, key])
                raise ConfigError(f"{where}: wanted the name of a readable file in {name}; {why}") from None
        value: Any = text
        if (section, key) in _LISTS:
            value = [part.strip() for part in text.split(",")]
        elif text.lower() in ("", "null", "none") and not is_secret([section, *above, key]):
            value = None
        if secret is not None and is_secret([section, *above, key]):
            value = secret  # read again for every connection
        inside = found.setdefault(section, {})
        for part in above:
            inside = inside.setdefault(part, {})
        inside[key] = value
        sources[".".join([section, *above, key])] = name
    return found, sources


def _refuse_misnamed(environ: dict[str, str], settings: Set[tuple[str, str]]) -> None:
    """Settings with one underscore between section and key, which would have no effect.

    Raises:
        ConfigError: A line for each, with the right name.
    """
    right = {f"{section}_{key}_file": (section, f"{key}_file") for section, key in settings}
    right |= {f"{section}_{key}": (section, key) for section, key in settings}
    lines = []
    for name in sorted(environ):
        found = right.get(name.removeprefix(ENV_PREFIX).lower().strip("_")) if name.startswith(ENV_PREFIX) else None
        if found is None:
            continue
        wanted = f"{ENV_PREFIX}{'__'.join(found)}".upper()
        # Kubernetes names the port of a Service streamer-http so: STREAMER_HTTP_PORT=tcp://10.0.0.1:9108
        if wanted not in environ and not (found[1] == "port" and "://" in environ[name]):
            lines.append(f"{'.'.join(found)}: {name} is not read; two underscores follow the section: set {wanted}")
    if lines:
        raise ConfigError("\n".join(lines))


def _settings() -> set[tuple[str, str]]:
    """Section and key of each."""
    return {
        (section, key)
        for section, field in Settings.model_fields.items()
        for key in getattr(field.annotation, "model_fields", {})
    }


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        inside = merged.get(key)
        merged[key] = _merge(inside, value) if isinstance(inside, dict) and isinstance(value, dict) else value
    return merged


def _resolve_paths(settings: Settings, base: Path) -> Settings:
    """Make relative directories relative to the configuration file, wherever the process was started."""
    model = settings.model.model_copy(update={"directory": base / settings.model.directory})
    if model.spool_directory is not None:
        model = model.model_copy(update={"spool_directory": base / model.spool_directory})
    state = settings.state
    if state.directory is not None:
        state = state.model_copy(update={"directory": base / state.directory})
    kafka = _under(base, settings.kafka, "ssl_cafile", "ssl_certfile", "ssl_keyfile", "oauth_token_file")
    http = _under(base, settings.http, "tls_certfile", "tls_keyfile", "tls_client_cafile", "auth_file")
    registry = _under(base, settings.schema_registry, "ca_file")
    sections = {"schema_registry": registry, "kafka": kafka, "model": model, "state": state, "http": http}
    return settings.model_copy(update=sections | {"sinks": _sinks_under(base, settings.sinks)})


def _sinks_under(base: Path, sinks: SinksConfig) -> SinksConfig:
    managers = {name: _under(base, sink, "ca_file") for name, sink in sinks.alertmanager.items()}
    hooks = {name: _under(base, sink, "ca_file", "template_file") for name, sink in sinks.webhook.items()}
    return sinks.model_copy(update={"alertmanager": managers, "webhook": hooks})


def _under(base: Path, section: _S, *keys: str) -> _S:
    """A section whose files, as far as they are named, are relative to a directory."""
    files = {key: getattr(section, key) for key in keys}
    return section.model_copy(update={key: base / file for key, file in files.items() if file is not None})
