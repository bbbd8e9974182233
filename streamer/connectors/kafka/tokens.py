"""Tokens to log in with: OAUTHBEARER, from a file, an identity provider or AWS.

A token is used again until a fifth of its life is left; both clients ask here, for every connection. Not inside: how a
client sends it (`options` of each).
"""

from __future__ import annotations

import base64
import json
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from streamer.config import KafkaConfig
from streamer.errors import BrokerError, ConfigError

TIMEOUT_S = 5.0  # of the identity provider; a client waits for it where it polls
MAX_ANSWER_BYTES = 65_536
_UNKNOWN_LIFE_S = 300.0


class NoToken(BrokerError):
    """There is none to be had now; never says what was sent."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token and when it ends, in seconds since 1970."""

    text: str
    until_s: float


class Tokens:
    """Gives the token of the moment; used from several threads.

    Args:
        get: Brings a new one; raises `NoToken`.
        clock: Seconds since 1970.
    """

    def __init__(self, get: Callable[[], Token], *, clock: Callable[[], float] = time.time) -> None:
        self._get, self._clock = get, clock
        self._lock = threading.Lock()
        self._now: Token | None = None
        self._renew_s = 0.0

    def __call__(self) -> Token:
        """The token.

        Raises:
            NoToken: There is none, or the one there was has ended.
        """
        with self._lock:
            now_s = self._clock()
            if self._now is None or now_s >= self._renew_s:
                try:
                    self._now = self._get()
                    self._renew_s = now_s + 0.8 * (self._now.until_s - now_s)
                except NoToken:
                    if self._now is None or now_s >= self._now.until_s:
                        raise
            return self._now


def tokens_of(config: KafkaConfig) -> Tokens:
    """Where the tokens of a configuration come from.

    Raises:
        ConfigError: A package is missing.
    """
    if config.sasl_mechanism == "AWS_MSK_IAM":
        return Tokens(_signer(config))
    if config.oauth_token_file is not None:
        return Tokens(lambda: _from_file(config))
    return Tokens(lambda: _from_provider(config))


def _from_file(config: KafkaConfig) -> Token:
    path = config.oauth_token_file
    assert path is not None
    try:
        with path.open("rb") as file:
            text = file.read(MAX_ANSWER_BYTES).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        said = getattr(error, "strerror", None) or "not ASCII"
        raise NoToken(f"kafka.oauth_token_file {path}: wanted a token; {said}") from None
    if not text:
        raise NoToken(f"kafka.oauth_token_file {path}: wanted a token; the file is empty")
    # Whoever writes the file renews it; ours is not to keep an old one.
    return Token(text, time.time())


def _from_provider(config: KafkaConfig) -> Token:
    """By client credentials (RFC 6749, 4.4)."""
    assert config.oauth_token_url is not None
    assert config.sasl_password is not None
    fields = {"grant_type": "client_credentials"} | ({"scope": config.oauth_scope} if config.oauth_scope else {})
    request = urllib.request.Request(
        config.oauth_token_url, data=urllib.parse.urlencode(fields).encode(), headers={"Accept": "application/json"}
    )
    user, password = (
        urllib.parse.quote_plus(text) for text in (config.sasl_username or "", config.sasl_password.get_secret_value())
    )
    request.add_unredirected_header("Authorization", _basic(user, password))
    where = f"no token from {config.oauth_token_url}"
    try:
        with _OPENER.open(request, timeout=TIMEOUT_S) as answer:
            content = answer.read(MAX_ANSWER_BYTES + 1)
    except urllib.error.HTTPError as error:
        raise NoToken(f"{where}: HTTP {error.code}; check kafka.sasl_username, the password and oauth_scope") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise NoToken(f"{where}: {type(reason).__name__ if not str(reason) else reason}") from None
    try:
        answered = json.loads(content) if len(content) <= MAX_ANSWER_BYTES else None
    except (ValueError, RecursionError):
        answered = None
    found: dict[str, Any] = answered if isinstance(answered, dict) else {}
    text = found.get("access_token")
    if not isinstance(text, str) or not text.isascii() or not text.isprintable():
        raise NoToken(f"{where}: wanted JSON with an access_token")
    life = found.get("expires_in")
    if not isinstance(life, (int, float)) or isinstance(life, bool) or not 0 < life < 1e9:
        life = _UNKNOWN_LIFE_S
    return Token(text, time.time() + life)


def _signer(config: KafkaConfig) -> Callable[[], Token]:
    try:
        from aws_msk_iam_sasl_signer import MSKAuthTokenProvider
    except ImportError:
        raise ConfigError(
            "kafka.sasl_mechanism AWS_MSK_IAM needs a package: pip install aws-msk-iam-sasl-signer-python"
        ) from None

    def signed() -> Token:
        try:
            text, until_ms = MSKAuthTokenProvider.generate_auth_token(config.aws_region)
        except Exception as error:  # of botocore, which is not ours to name
            raise NoToken(f"no token of AWS for {config.aws_region}: {type(error).__name__}: {error}") from None
        return Token(text, until_ms / 1000)

    return signed


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The secret goes where it was configured to go."""

    def redirect_request(self, *_: Any) -> None: ...


_OPENER = urllib.request.build_opener(_NoRedirect)
