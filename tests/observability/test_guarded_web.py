"""Who may read the HTTP port, and what a client cannot do to it."""

from __future__ import annotations

import base64
import hashlib
import logging
import os
import socket
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import bcrypt
import pytest
from pydantic import ValidationError

from streamer.config import HttpConfig
from streamer.errors import ConfigError
from streamer.observability import access
from streamer.observability.access import Access, Verdict
from streamer.observability.serving import MAX_HEAD_BYTES, MAX_HEADERS
from streamer.observability.web import WebServer
from tests.certificates import Authority

PASSWORD, TOKEN = "correct horse", "a" * 43
HASH = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(8)).decode()
DIGEST = hashlib.sha256(TOKEN.encode()).hexdigest()

Serve = Callable[..., WebServer]


def metrics(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"streamer_up 1\n"]


@pytest.fixture
def serve() -> Iterator[Serve]:
    made: list[WebServer] = []

    def start(*, ready: str | None = None, **config: Any) -> WebServer:
        server = WebServer(
            HttpConfig(**{"port": 0} | config), metrics=metrics, healthy=lambda: None, ready=lambda: ready
        )
        made.append(server)
        return server

    yield start
    for server in made:
        server.close()


@pytest.fixture
def auth_file(tmp_path: Path) -> Path:
    path = tmp_path / "web.yaml"
    path.write_text(f"basic_auth_users:\n  scraper: {HASH}\nbearer_tokens:\n  scraper: {DIGEST}\n")
    return path


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


def basic(user: str = "scraper", password: str = PASSWORD) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def get(
    server: WebServer, path: str, login: str | None = None, context: ssl.SSLContext | None = None
) -> tuple[int, str, Any]:
    request = urllib.request.Request(server.address + path, headers={"Authorization": login} if login else {})
    try:
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:
            return answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), error.headers


def ask(server: WebServer, request: bytes) -> bytes:
    """What comes back until the server hangs up."""
    host, port = server.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(request)
        return received(connection)


def received(connection: socket.socket) -> bytes:
    content = b""
    try:
        while piece := connection.recv(4096):
            content += piece
    except ConnectionError:
        pass
    return content


# -------------------------------------------------------------------------------------------------------------- logins


def test_metrics_want_a_login(serve: Serve, auth_file: Path) -> None:
    server = serve(auth_file=auth_file)

    status, text, headers = get(server, "/metrics")

    assert (status, text) == (401, "no login came\n")
    assert headers.get_all("WWW-Authenticate") == ['Basic realm="streamer", charset="UTF-8"', "Bearer"]
    assert get(server, "/metrics", basic())[:2] == (200, "streamer_up 1\n")
    assert get(server, "/metrics", f"Bearer {TOKEN}")[0] == 200


@pytest.mark.parametrize(
    "login",
    [
        basic(password="wrong"),
        basic(user="nobody"),
        basic(password="x" * 73),
        basic(password=PASSWORD + "\0"),
        f"Bearer {TOKEN}x",
        "Bearer",
        "Basic !!!",
        "Basic " + base64.b64encode(b"\xff:x").decode(),
        "Basic " + base64.b64encode(b"no-colon").decode(),
        "Digest x",
    ],
)
def test_other_logins_are_wrong(serve: Serve, auth_file: Path, login: str) -> None:
    assert get(serve(auth_file=auth_file), "/metrics", login)[0] == 401


def test_health_is_open_but_its_reason_is_for_those_who_log_in(serve: Serve, auth_file: Path) -> None:
    server = serve(auth_file=auth_file, ready="login of user etl refused by kafka-7")

    assert get(server, "/healthz")[:2] == (200, "ok\n")
    assert get(server, "/readyz")[:2] == (503, "no; the reason is told after a login\n")
    assert get(server, "/readyz", basic())[:2] == (503, "login of user etl refused by kafka-7\n")


def test_health_can_be_closed_too(serve: Serve, auth_file: Path) -> None:
    server = serve(auth_file=auth_file, open_health=False)

    assert [get(server, path)[0] for path in ("/healthz", "/readyz", "/nothing")] == [401] * 3


def test_a_changed_file_counts_at_once_and_a_broken_one_changes_nothing(
    auth_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    now_s = [0.0]
    some = Access(HttpConfig(auth_file=auth_file), clock=lambda: now_s[0])

    def look(login: str) -> Verdict:
        now_s[0] += 2
        return some.judge(login, address="a", has_certificate=False)

    assert look(basic()) is Verdict.KNOWN
    auth_file.write_text("basic_auth_users: [")
    assert look(basic()) is Verdict.KNOWN
    assert "what was read before stays in use" in caplog.text
    other = bcrypt.hashpw(b"new", bcrypt.gensalt(8)).decode()
    auth_file.write_text(f"basic_auth_users: {{scraper: {other}}}")
    assert look(basic()) is Verdict.WRONG
    assert look(basic(password="new")) is Verdict.KNOWN
    assert PASSWORD not in caplog.text
    assert HASH not in caplog.text


def test_wrong_logins_are_not_checked_without_end(auth_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s, checked, check = [0.0], list[bytes](), bcrypt.checkpw

    def counted(password: bytes, hashed: bytes) -> bool:
        checked.append(password)
        return check(password, hashed)

    monkeypatch.setattr(bcrypt, "checkpw", counted)
    some = Access(HttpConfig(auth_file=auth_file), clock=lambda: now_s[0])

    def look(login: str, address: str) -> Verdict:
        return some.judge(login, address=address, has_certificate=False)

    first = look(basic(), "scraper")
    flood = [look(basic(password=f"{i}"), "stranger") for i in range(20)]

    assert first is Verdict.KNOWN
    assert flood == [Verdict.WRONG] * access.MOST_WRONG + [Verdict.BUSY] * (20 - access.MOST_WRONG)
    assert len(checked) == 1 + access.MOST_WRONG
    # Who was right before is not kept out, nor is anything computed for them; nor who has a token.
    assert look(basic(), "scraper") is look(basic(), "stranger") is Verdict.KNOWN
    assert look(f"Bearer {TOKEN}", "stranger") is Verdict.KNOWN
    assert len(checked) == 1 + access.MOST_WRONG
    many = [look(basic(password=f"x{i}"), f"10.0.0.{i}") for i in range(100)]
    assert many.count(Verdict.WRONG) == access.MOST_WRONG_OF_ALL - access.MOST_WRONG
    now_s[0] += access.WRONG_S
    assert look(basic(password="x"), "stranger") is Verdict.WRONG


def test_a_right_password_is_not_locked_out_by_what_others_behind_the_same_address_get_wrong(auth_file: Path) -> None:
    other = bcrypt.hashpw(b"other", bcrypt.gensalt(8)).decode()
    auth_file.write_text(auth_file.read_text().replace("bearer_tokens:", f"  grafana: {other}\nbearer_tokens:"))
    some = Access(HttpConfig(auth_file=auth_file), clock=lambda: 0.0)

    def look(login: str) -> Verdict:
        return some.judge(login, address="the ingress", has_certificate=False)

    stale = [look(basic(password="of last month")) for _ in range(20)]  # a scraper nobody has told of the new password
    strangers = [look(basic(user=f"u{i}", password="x")) for i in range(20)]
    guesses = [look(basic(user="grafana", password=f"{i}")) for i in range(20)]

    assert stale == [Verdict.WRONG] * 20
    assert strangers.count(Verdict.WRONG) == guesses.count(Verdict.WRONG) == access.MOST_WRONG
    assert look(basic()) is Verdict.KNOWN


def test_a_password_that_was_wrong_is_right_when_the_file_says_so(auth_file: Path) -> None:
    now_s = [0.0]
    some = Access(HttpConfig(auth_file=auth_file), clock=lambda: now_s[0])

    early = some.judge(basic(password="new"), address="a", has_certificate=False)
    auth_file.write_text(f"basic_auth_users: {{scraper: {bcrypt.hashpw(b'new', bcrypt.gensalt(8)).decode()}}}")
    now_s[0] += 2

    assert early is Verdict.WRONG
    assert some.judge(basic(password="new"), address="a", has_certificate=False) is Verdict.KNOWN


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("basic_auth_users: {a: secret-in-plain}", "user 'a': wanted a bcrypt hash"),
        (f"basic_auth_users: {{a: {HASH.replace('$08$', '$31$')}}}", "wanted bcrypt of cost 8 to 14; got 31"),
        (f"bearer_tokens: {{a: {TOKEN}}}", "token 'a': wanted its SHA-256"),
        ("{}", "nobody could log in"),
        ("basic_auth_users: {a: 5}", "wanted names, each with the hash of its secret"),
        ("tls_server_config: {}", "and nothing else"),
        ("[", "wanted YAML"),
        ("x" * 1_000_001, "at most 1000000 bytes"),
    ],
    ids=["plain", "cost", "digest", "empty", "number", "other", "yaml", "long"],
)
def test_a_file_of_logins_that_cannot_be_right_is_refused(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "web.yaml"
    path.write_text(content)

    with pytest.raises(ConfigError, match=said) as error:
        Access(HttpConfig(auth_file=path))

    assert "secret-in-plain" not in str(error.value)
    assert TOKEN not in str(error.value)


# ----------------------------------------------------------------------------------------------------------------- TLS


def test_pages_come_encrypted(serve: Serve, authority: Authority) -> None:
    certfile, keyfile = authority.issue("streamer")
    server = serve(tls_certfile=certfile, tls_keyfile=keyfile)

    status, text, _ = get(server, "/metrics", context=ssl.create_default_context(cafile=authority.cafile))

    assert server.address.startswith("https://")
    assert (status, text) == (200, "streamer_up 1\n")


def test_a_renewed_certificate_is_served_without_a_restart(
    serve: Serve, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamer.observability.reloaded.LOOK_S", 0.0)
    certfile, keyfile = authority.issue("streamer")
    server = serve(tls_certfile=certfile, tls_keyfile=keyfile)
    port = int(server.address.rpartition(":")[2])
    before = ssl.get_server_certificate(("127.0.0.1", port))

    new_certfile, new_keyfile = authority.issue("streamer", file="renewed")
    os.replace(new_certfile, certfile)  # for a moment certificate and key do not fit together
    between = ssl.get_server_certificate(("127.0.0.1", port))
    os.replace(new_keyfile, keyfile)
    after = ssl.get_server_certificate(("127.0.0.1", port))

    assert between == before
    assert after == certfile.read_text() != before


def test_metrics_want_a_client_certificate_and_probes_do_not(
    serve: Serve, authority: Authority, tmp_path: Path
) -> None:
    certfile, keyfile = authority.issue("streamer")
    server = serve(tls_certfile=certfile, tls_keyfile=keyfile, tls_client_cafile=authority.cafile)
    bare = ssl.create_default_context(cafile=authority.cafile)
    known, strange = (ssl.create_default_context(cafile=authority.cafile) for _ in range(2))
    known.load_cert_chain(*authority.issue("prometheus"))
    strange.load_cert_chain(*Authority(tmp_path / "other").issue("prometheus"))

    assert get(server, "/metrics", context=known)[0] == 200
    assert get(server, "/metrics", context=bare)[:2] == (403, "no client certificate came\n")
    assert get(server, "/healthz", context=bare)[0] == 200
    with pytest.raises((ssl.SSLError, ConnectionError, urllib.error.URLError)):
        get(server, "/metrics", context=strange)


def test_with_closed_health_nobody_connects_without_a_certificate(serve: Serve, authority: Authority) -> None:
    certfile, keyfile = authority.issue("streamer")
    server = serve(tls_certfile=certfile, tls_keyfile=keyfile, tls_client_cafile=authority.cafile, open_health=False)

    with pytest.raises((ssl.SSLError, ConnectionError, urllib.error.URLError)):
        get(server, "/healthz", context=ssl.create_default_context(cafile=authority.cafile))


def test_files_that_are_no_certificates_are_refused_at_the_start(tmp_path: Path) -> None:
    nothing = tmp_path / "nothing.pem"
    nothing.write_text("nothing")
    config = HttpConfig(port=0, tls_certfile=nothing, tls_keyfile=nothing)

    with pytest.raises(ConfigError, match=r"http.tls_certfile .*nothing.pem.*: wanted a certificate and its key"):
        WebServer(config, metrics=metrics, healthy=lambda: None, ready=lambda: None)


def test_settings_that_need_each_other() -> None:
    with pytest.raises(ValidationError, match="tls_certfile and tls_keyfile go together"):
        HttpConfig(tls_certfile=Path("a"))
    with pytest.raises(ValidationError, match="tls_client_cafile needs TLS"):
        HttpConfig(tls_client_cafile=Path("a"))


# -------------------------------------------------------------------------------------------------------------- limits


def test_what_is_open_to_the_network_is_said(serve: Serve, auth_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        serve()
        assert caplog.text == ""
        serve(host="0.0.0.0")
        assert "unencrypted and open to all who reach it" in caplog.text
        caplog.clear()
        serve(host="0.0.0.0", auth_file=auth_file)
        assert "logins at 0.0.0.0:0 travel unencrypted" in caplog.text


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /" + b"x" * MAX_HEAD_BYTES + b" HTTP/1.1\r\n\r\n", b"414"),
        (b"GET /metrics HTTP/1.1\r\nA: " + b"x" * MAX_HEAD_BYTES + b"\r\n\r\n", b"431"),
        (b"GET /metrics HTTP/1.1\r\n" + b"a: b\r\n" * (MAX_HEADERS + 1) + b"\r\n", b"431"),
        (b"GET /metrics HTTP/1.1\r\n" + b"a: b\r\n" * 5000 + b"\r\n", b"431"),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", b"405"),
        (b"DELETE /metrics HTTP/1.1\r\n\r\n", b"405"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET http://other/ HTTP/9.9\r\n\r\n", b"505"),
    ],
    ids=["line", "header", "headers", "many", "post", "delete", "nonsense", "version"],
)
def test_requests_beyond_the_bounds_are_refused(serve: Serve, request_: bytes, status: bytes) -> None:
    server = serve()

    answer = ask(server, request_)

    assert status in answer.split(b"\r\n")[0] or answer == b""  # hung up while we were still sending
    assert b"Python" not in answer
    assert get(server, "/metrics")[0] == 200


def test_a_client_that_sends_byte_by_byte_is_cut_off(serve: Serve) -> None:
    server = serve(timeout_s=0.6)
    port = int(server.address.rpartition(":")[2])

    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\n")
        answer = b"still open"
        connection.settimeout(0.1)
        for _ in range(100):  # a timeout of each read would never strike
            try:
                connection.sendall(b"a")
                answer = connection.recv(100)
                break
            except TimeoutError:
                continue
            except ConnectionError:
                answer = b""
                break

    assert answer == b""


def idle(server: WebServer, count: int, opened: ExitStack, *, saying: bytes = b"") -> list[socket.socket]:
    """Connections that never send a whole request; closed with `opened`."""
    port = int(server.address.rpartition(":")[2])
    made = []
    for _ in range(count):
        connection = opened.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
        if saying:
            with suppress(ConnectionError):
                connection.sendall(saying)
        made.append(connection)
    return made


@pytest.mark.parametrize("saying", [b"", b"GET /metrics HTTP/1.1\r\nA: "], ids=["silent", "half a head"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_connections_that_ask_nothing_do_not_keep_out_probes(
    serve: Serve, authority: Authority, tls: bool, saying: bytes
) -> None:
    certfile, keyfile = authority.issue("streamer")
    server = serve(tls_certfile=certfile, tls_keyfile=keyfile) if tls else serve()
    context = ssl.create_default_context(cafile=authority.cafile) if tls else None

    with ExitStack() as opened:
        idle(server, 200, opened, saying=saying)
        answers = [get(server, "/healthz", context=context)[:2] for _ in range(5)]

    assert answers == [(200, "ok\n")] * 5


def test_one_address_has_a_part_of_the_connections_and_a_new_one_replaces_its_oldest(serve: Serve) -> None:
    server = serve(max_connections=8)  # two for an address

    with ExitStack() as opened:
        first, second, third = idle(server, 3, opened)
        dropped = received(first)
        for connection in (second, third):
            connection.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
        answers = [received(second), received(third)]

    assert dropped == b""
    assert [answer[:12] for answer in answers] == [b"HTTP/1.0 200"] * 2


def test_a_head_has_less_time_than_an_answer(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamer.observability.serving.HEAD_S", 0.3)
    server = serve(timeout_s=300)

    with ExitStack() as opened:
        (connection,) = idle(server, 1, opened, saying=b"GET /metrics HTTP/1.1\r\n")
        answer = received(connection)

    assert answer == b""


def test_requests_beyond_what_is_answered_at_the_same_time_are_refused(caplog: pytest.LogCaptureFixture) -> None:
    asked, answered = threading.Semaphore(0), threading.Event()

    def slow(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        asked.release()
        answered.wait(10)
        return metrics(environ, start_response)

    server = WebServer(HttpConfig(port=0, max_connections=2), metrics=slow, healthy=lambda: None, ready=lambda: None)
    try:
        with ExitStack() as opened:
            (held,) = idle(server, 1, opened, saying=b"GET /metrics HTTP/1.1\r\n\r\n")
            asked.acquire(timeout=10)
            refused = ask(server, b"GET /metrics HTTP/1.1\r\n\r\n")
            answered.set()
            content = received(held)
    finally:
        server.close()

    assert refused.startswith(b"HTTP/1.0 503") or refused == b""  # hung up while we were still sending
    assert content.startswith(b"HTTP/1.0 200")
    assert "http: connections refused" in caplog.text


def test_head_gives_no_body(serve: Serve) -> None:
    answer = ask(serve(), b"HEAD /metrics HTTP/1.1\r\n\r\n")

    assert answer.startswith(b"HTTP/1.0 200 OK")
    assert b"streamer_up" not in answer
