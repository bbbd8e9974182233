"""The errors a caller can act on; the type says which move is theirs.

    StreamerError
      ConfigError       stop: a setting is wrong (exit 78)
      UsageError        stop: the command line is wrong (exit 64)
      BrokerError       stop or retry: the broker refuses or is away (exit 69)
        CommitFailed    the group moved on: rejoin, do not count the offset
        SchemasUnavailable  the schema registry does not answer: read the same records again later
        StateUnavailable    the state store does not answer: ask again, rather than begin without state
        DeliveryFailed  a produced message was not acknowledged: do not commit
      DataError         stop: an offline file cannot be used (exit 65)
      StateError        a snapshot cannot be used: fall back to an older one
        StateNotMade    the store is not there yet: the daemon makes it

Bad *records* are data, not errors (see `records.Reject`). Model files that
cannot be trusted raise `models.errors.ArtifactError`.
"""


class StreamerError(Exception):
    """Base of every error this package raises on purpose."""


class ConfigError(StreamerError):
    """A setting is missing or wrong; names the key, what was wanted and what came."""


class UsageError(StreamerError):
    """Options are right one by one and do not go together, or one holds what it cannot."""


class BrokerError(StreamerError):
    """The broker cannot be reached, or refuses what was asked of it."""


class CommitFailed(BrokerError):
    """An offset commit was refused, usually because the partition has a new owner."""


class SchemasUnavailable(BrokerError):
    """A schema registry does not answer; nothing was decoded, and nothing may be committed past the records."""


class StateUnavailable(BrokerError):
    """A state store does not answer: whether it holds what is asked for is not known."""


class DeliveryFailed(BrokerError):
    """At least one produced message was not acknowledged in time."""


class DataError(StreamerError):
    """A data file cannot be read as readings."""


class StateError(StreamerError):
    """A snapshot is damaged or does not fit; an older one or a cold start follows."""


class StateNotMade(StateError):
    """The store that settings name is not there yet; the daemon makes it, if it may."""
