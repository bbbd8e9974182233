"""Which incidents a rule or a maintenance window is for."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True, slots=True)
class Match:
    """Which incidents: patterns as of file names, of which one must match."""

    streams: tuple[str, ...] = ("*",)  # an incident of a partition goes by `topic[3]`, one of the topic by its name
    features: tuple[str, ...] = ()  # of the leading feature; none: whatever it is, and where there is none
    kinds: tuple[str, ...] = ()  # none: all

    def of_stream(self, stream: str) -> bool:
        """Whether the stream's name matches.

        >>> Match(("boiler-*",)).of_stream("boiler-7"), Match(("boiler-?",)).of_stream("boiler-17")
        (True, False)
        """
        return any(fnmatchcase(stream, pattern) for pattern in self.streams)

    def of_incident(self, kind: str, feature: str | None) -> bool:
        """Whether kind and leading feature match."""
        if self.kinds and kind not in self.kinds:
            return False
        return not self.features or (feature is not None and any(fnmatchcase(feature, one) for one in self.features))
