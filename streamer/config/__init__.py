"""Settings: read once, frozen, handed in.

schema    every setting, its default and its bounds
kafka     the section on the broker
records   the section on messages
notifications  the section on who is told of which incident
schema_registry  the section on where schemas of messages are
event_time  the sections on time and market hours
state     the section on what a restart resumes from
incidents the section on the history of incidents
http      the section on the port of metrics and health
files     the section on data files
section   what the sections of the settings have in common
loading   YAML file, environment and secret files, merged
wording   what is wrong with a setting, said to its author
"""

from streamer.config.event_time import SessionsConfig, TimeConfig
from streamer.config.files import FilesConfig
from streamer.config.http import HttpConfig
from streamer.config.incidents import IncidentsConfig
from streamer.config.kafka import KafkaConfig
from streamer.config.limits import LimitsConfig
from streamer.config.loading import ENV_PREFIX, load, load_connections, load_files
from streamer.config.notifications import NotificationsConfig
from streamer.config.records import RecordsConfig
from streamer.config.rules import RulesConfig
from streamer.config.schema import (
    SECRET_KEYS,
    AlertingConfig,
    LogConfig,
    ModelConfig,
    Settings,
    WindowConfig,
)
from streamer.config.schema_registry import SchemaRegistryConfig
from streamer.config.sinks import SinksConfig
from streamer.config.state import StateConfig

__all__ = [
    "ENV_PREFIX",
    "SECRET_KEYS",
    "AlertingConfig",
    "FilesConfig",
    "HttpConfig",
    "IncidentsConfig",
    "KafkaConfig",
    "LimitsConfig",
    "LogConfig",
    "ModelConfig",
    "NotificationsConfig",
    "RecordsConfig",
    "RulesConfig",
    "SchemaRegistryConfig",
    "SessionsConfig",
    "Settings",
    "SinksConfig",
    "StateConfig",
    "TimeConfig",
    "WindowConfig",
    "load",
    "load_connections",
    "load_files",
]
