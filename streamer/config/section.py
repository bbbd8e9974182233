"""What the sections of the settings have in common: strictness, and numbers written as people write them.

Not inside: any setting.
"""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

from streamer.core.durations import parse_duration

TopicName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,249}$")]
Positive = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]


def seconds(value: Any) -> Any:
    """Seconds of a duration such as `7d`; numbers stand for seconds.

    Raises:
        ValueError: It is neither.
    """
    if isinstance(value, (int, float)):
        return value
    try:
        return float(value)
    except (TypeError, ValueError):
        return parse_duration(str(value))


Duration = Annotated[float, BeforeValidator(seconds), Field(ge=0, le=1e9, allow_inf_nan=False)]


def is_loopback(host: str) -> bool:
    """Whether a name or address is this machine's own."""
    host = host.strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Section(BaseModel):
    """Frozen, and an unknown key is an error rather than a silent typo."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _no_number_from_a_switch(cls, value: Any, info: ValidationInfo) -> Any:
        # YAML reads yes and on as true, and true would be taken for 1.
        if isinstance(value, bool) and {int, float} & _kinds(cls.model_fields[str(info.field_name)].annotation):
            raise ValueError(f"wanted a number; got {str(value).lower()}")
        return value


def _kinds(annotation: Any) -> set[Any]:
    """The plain types of an annotation: `{float, NoneType}` of an optional number with bounds."""
    inside = get_args(annotation)
    return set[Any]().union(*map(_kinds, inside)) if inside else {annotation}
