"""Fields that the command line names: whether the messages have them. Not inside: the time (`writing`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from streamer.errors import DataError
from streamer.formats.nearest import did_you_mean
from streamer.offline.look.choosing import Chosen, Wanted
from streamer.offline.look.fields import Field

_SHOWN = 20  # names


def check_named(origin: str, wanted: Wanted, fields: Mapping[str, Field], pseudo: Mapping[str, Field]) -> None:
    """Before roles are chosen.

    Raises:
        DataError: Names what is not there, and what was probably meant.
    """
    plain = [name for name in wanted.stream or () if not name.startswith("@")]
    _check(origin, "--stream", plain, [*fields, *pseudo])
    _check(origin, "--metric", [wanted.metric] if wanted.metric is not None else [], fields)
    _check(origin, "--value", [wanted.value] if wanted.value is not None else [], fields)


def check_features(origin: str, wanted: Wanted, fields: Mapping[str, Field], chosen: Chosen) -> None:
    """After roles are chosen: a feature is a field, or where each message has one metric, a metric.

    Raises:
        DataError: As `check_named`.
    """
    known: Iterable[str] = fields
    if chosen.metric is not None:
        texts = fields[chosen.metric.name].texts
        known = dict.fromkeys(str(text) for text in ([] if texts is None else texts) if text is not None)
    _check(origin, "--features", wanted.features or (), known)


def _check(origin: str, option: str, names: Iterable[str], known: Iterable[str]) -> None:
    there = list(known)
    for name in names:
        if there and name not in there:
            shown = ", ".join(there[:_SHOWN]) + (", ..." if len(there) > _SHOWN else "")
            raise DataError(
                f"{origin}: {option}: {name!r} is not in what was looked at; there is {shown}"
                f"{did_you_mean(name, there)}"
            )
