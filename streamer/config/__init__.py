"""Settings: read once, frozen, handed in.

schema    every setting, its default and its bounds
loading   YAML file, environment and secret files, merged
wording   what is wrong with a setting, said to its author
"""

from streamer.config.loading import ENV_PREFIX, load
from streamer.config.schema import (
    SECRET_KEYS,
    AlertingConfig,
    HttpConfig,
    KafkaConfig,
    LogConfig,
    ModelConfig,
    RecordsConfig,
    Settings,
    StateConfig,
    WindowConfig,
)

__all__ = [
    "ENV_PREFIX",
    "SECRET_KEYS",
    "AlertingConfig",
    "HttpConfig",
    "KafkaConfig",
    "LogConfig",
    "ModelConfig",
    "RecordsConfig",
    "Settings",
    "StateConfig",
    "WindowConfig",
    "load",
]
