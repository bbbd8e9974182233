"""A proposal as a commented YAML file that the other commands take as it stands.

Not inside: what is proposed (`proposing`).
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from streamer.config import KafkaConfig, SchemaRegistryConfig, Settings
from streamer.errors import DataError, UsageError
from streamer.formats.framed import FORMATS
from streamer.formats.nearest import did_you_mean
from streamer.offline.look.arrivals import tried, written_at_once
from streamer.offline.look.choosing import AS_YOU_SAID, KAFKA
from streamer.offline.look.features import Features
from streamer.offline.look.looking import Look
from streamer.offline.look.proposing import Proposal, Setting, plain

_WIDTH = 118
_SECRET = ("sasl_password", "ssl_key_password")


def document(
    seen: Look, proposal: Proposal, kafka: KafkaConfig, registry: SchemaRegistryConfig | None = None, *, asked: str
) -> str:
    """The text of the file.

    Args:
        seen: What the settings come from.
        proposal: The settings.
        kafka: Connection and topic.
        registry: Where schemas are, if messages have them.
        asked: The command line, for the first comment.

    Raises:
        DataError: There is no feature, or nothing that names the stream or the time; says what to do.
    """
    check_complete(seen)
    timing, features = seen.timing, seen.features
    lines = [
        f"# Made by `{asked}` from {len(seen.rows.rows)} readings of {seen.sample.origin}"
        + (f" ({seen.sample.total} messages)." if seen.sample.total > len(seen.sample.messages) else "."),
        f"# {seen.recognised.title}, {features.kind}: {features.kind_why}.",
        f"# Change what you know better; `streamer check` says whether it still fits. {timing.streams} stream(s) seen.",
        *_warning(seen),
        "",
        *_section("kafka", _kafka(kafka)),
        *_registry(registry, seen),
        *_section("records", proposal["records"]),
        *_left_out(features),
        *(
            line
            for name in ("files", "sessions", "time", "rules", "window")
            for line in _section(name, proposal.get(name, ()))
        ),
        *_section("model", [Setting("directory", "bundles", "beside this file"), *proposal.get("model", ())]),
        *_section("alerting", proposal.get("alerting", ())),
        *_section("state", [Setting("directory", "state", "snapshots, from which a restart resumes")]),
    ]
    text = "\n".join(lines) + "\n"
    Settings.model_validate({"schema_registry": registry or {}, **plain(proposal)})  # a fault here is ours
    return text


def _warning(seen: Look) -> list[str]:
    """What is wrong with the topic itself."""
    if seen.split is None:
        return []
    return [
        "#",
        *(
            _cut(line)
            for line in textwrap.wrap(
                f"WARNING: {seen.split.words()}", _WIDTH, initial_indent="# ", subsequent_indent="# "
            )
        ),
    ]


def check_complete(seen: Look) -> None:
    """Refuse to write what cannot work.

    Raises:
        DataError: Says which field is missing, and which option names it.
    """
    names = ", ".join(list(seen.fields)[:20]) or "none"
    timestamp = seen.chosen.timestamp
    if seen.sample.is_file and seen.recognised.format == "influx":
        raise DataError(
            f"{seen.sample.origin}: wanted CSV, JSON or Parquet; it is Influx line protocol, which is read from Kafka "
            "(--topic), not from files: send the lines to a topic, or export the data as CSV"
        )
    if timestamp is not None and timestamp not in {**seen.fields, **seen.pseudo}:
        hint = did_you_mean(timestamp, seen.fields)
        raise DataError(f"{seen.sample.origin}: --timestamp: wanted a field; {timestamp!r} is none of {names}{hint}")
    unclear = [field for field in seen.fields.values() if field.unclear and timestamp in (None, field.name)]
    if unclear:
        raise DataError(f"{seen.sample.origin}: {unclear[0].unclear}")
    if not seen.features.taken:
        why = "; ".join(f"{each.name} ({each.why})" for each in list(seen.features.left)[:10])
        raise DataError(f"{seen.sample.origin}: no field is a feature: {why or names}; name them with --features")
    if seen.chosen.timestamp is None:
        raise DataError(
            f"{seen.sample.origin}: {seen.chosen.timestamp_why}; fields are {names}: name one with --timestamp"
        )
    if seen.chosen.timestamp == KAFKA and seen.chosen.timestamp_why != AS_YOU_SAID:
        why = written_at_once(seen.times_ns, seen.chosen.group, seen.run)
        if why:
            raise DataError(
                f"{seen.sample.origin}: no field is a time, and the broker's times are those of a topic that was "
                f"filled at once ({why}). Tried: {tried(seen.fields)}. Name the time with --timestamp FIELD and "
                f"--timestamp-unit (iso8601, s, ms, us, ns), or take the broker's with --timestamp {KAFKA}"
            )
    if not seen.chosen.stream and not seen.sample.is_file:
        raise DataError(
            f"{seen.sample.origin}: {seen.chosen.stream_why}, and no message has a key; fields are {names}: name one "
            "with --stream"
        )


def check_free(path: Path, *, overwrite: bool) -> None:
    """Refuse to overwrite a file.

    Raises:
        UsageError: It exists and may not be overwritten.
    """
    if path.exists() and not overwrite:
        raise UsageError(f"--out: {path} exists; overwrite it with --yes, or name another file")


def save(path: Path, text: str, *, overwrite: bool) -> None:
    """Write the file.

    Raises:
        UsageError: It exists and may not be overwritten.
        DataError: It cannot be written.
    """
    check_free(path, overwrite=overwrite)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError(f"--out: wanted a file that can be written; {path}: {error.strerror}") from None


_ON_LOOPBACK = "a broker on loopback; remove it elsewhere: a mistyped topic would be created, and nothing come"


def _kafka(kafka: KafkaConfig) -> list[Setting]:
    """Connection and topics; what was given goes in, secrets never."""
    topic = kafka.topic
    given = {name for name in kafka.model_fields_set if name not in _SECRET}
    found = [
        Setting("bootstrap_servers", kafka.bootstrap_servers),
        Setting("topic", topic),
        Setting("group", kafka.group if "group" in given else f"streamer.{topic}"[:249], "the same for all replicas"),
        Setting(
            "alerts_topic",
            kafka.alerts_topic if "alerts_topic" in given else f"{topic}.alerts"[:249],
            f"and {kafka.dlq_topic} for records that are refused",
        ),
    ]
    if kafka.on_loopback:
        found.append(Setting("create_topics", True, _ON_LOOPBACK))
    done = {setting.key for setting in found}
    for name in sorted(given - done):
        value = getattr(kafka, name)
        found.append(Setting(name, str(value) if isinstance(value, Path) else value))
    return found


def _registry(registry: SchemaRegistryConfig | None, seen: Look) -> list[str]:
    if registry is None or registry.url is None or seen.recognised.format not in FORMATS:
        return []
    given = [(name, getattr(registry, name)) for name in sorted(registry.model_fields_set) if name != "password"]
    settings = [Setting(name, str(value) if isinstance(value, Path) else value) for name, value in given]
    return _section("schema_registry", settings)


def _left_out(features: Features) -> list[str]:
    if not features.left:
        return [""]
    lines = ["  # Not taken, and why:"]
    lines += [_cut(f"  #   {each.name}: {each.why}") for each in features.left[:40]]
    if len(features.left) > 40:
        lines.append(f"  #   and {len(features.left) - 40} more")
    return [*lines, ""]


def _section(name: str, settings: Sequence[Setting]) -> list[str]:
    if not settings:
        return []
    lines = [f"{name}:"]
    for setting in settings:
        lines += _setting(setting)
    return lines if name == "records" else [*lines, ""]


def _setting(setting: Setting) -> list[str]:
    if isinstance(setting.value, dict):
        if all(not isinstance(value, str) or len(value) < 12 for value in setting.value.values()):
            return [f"  {setting.key}: {_scalar(setting.value)}"]
        head = f"  {setting.key}:" + (f" # {setting.seen}" if setting.seen else "")
        return [_cut(head), *(f"    {_scalar(key)}: {_scalar(value)}" for key, value in setting.value.items())]
    line = f"  {setting.key}: {_value(setting.value)}"
    if len(line) > _WIDTH and isinstance(setting.value, list):
        return [f"  {setting.key}:", *(f"    - {_scalar(one)}" for one in setting.value)]
    if not setting.seen:
        return [line]
    if len(line) + len(setting.seen) + 3 <= _WIDTH:
        return [f"{line} # {setting.seen}"]
    return [_cut(f"  # {setting.seen}"), line]


def _value(value: Any) -> str:
    return f"[{', '.join(map(_scalar, value))}]" if isinstance(value, list) else _scalar(value)


def _scalar(value: Any) -> str:
    """One value on one line, quoted only where YAML needs it."""
    text = yaml.safe_dump([value], default_flow_style=True, allow_unicode=True, width=10_000).strip()
    return text[1:-1]


def _cut(line: str) -> str:
    """A comment on one line, whatever the data holds."""
    clean = "".join(char if char.isprintable() else "?" for char in line)
    return clean if len(clean) <= _WIDTH else clean[: _WIDTH - 3] + "..."
