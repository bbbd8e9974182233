"""What comes of a request, whatever the other side does; and what is never shown."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from streamer.config.secrets import SecretFile
from streamer.connectors.alert_sinks import SinkUnreachable
from streamer.connectors.alert_sinks.http import MAX_ANSWER_BYTES, HttpClient
from tests.web_servers import WebServer, raw_server, web_server


@pytest.fixture
def server() -> Iterator[WebServer]:
    with web_server() as served:
        yield served


def client(url: str, timeout_s: float = 30.0, **login: SecretStr | str) -> HttpClient:
    return HttpClient(lambda: url, timeout_s=timeout_s, **login)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, "delivered"), (202, "delivered"), (204, "delivered"),
        (400, "refused"), (410, "refused"), (422, "refused"),
        (401, "failed"), (403, "failed"), (404, "failed"), (408, "failed"), (429, "failed"),
        (302, "failed"), (500, "failed"), (503, "failed"),
    ],
)  # fmt: skip
def test_an_answer_is_a_delivery_a_refusal_or_a_failure(server: WebServer, status: int, outcome: str) -> None:
    server.answer = lambda request: status

    assert client(server.url).post("/x", b"{}").outcome == outcome


def test_a_redirect_is_not_followed(server: WebServer) -> None:
    server.answer = lambda request: (307, {"Location": f"{server.url}/elsewhere"}, b"")

    answer = client(server.url).post("/x", b"{}")

    assert answer.why == "answer 307: it redirects, which is not followed; set the address it redirects to"
    assert [request.path for request in server.requests] == ["/x"]


@pytest.mark.parametrize(
    ("said", "meant_s"), [("7", 7.0), ("999999", 300.0), ("soon", None), ("-5", None), ("²", None)]
)
def test_who_asks_for_a_pause_is_heard_within_bounds(server: WebServer, said: str, meant_s: float | None) -> None:
    server.answer = lambda request: (429, {"Retry-After": said}, b"")

    assert client(server.url).post("/x", b"{}").retry_after_s == meant_s


def test_a_server_that_never_answers_costs_no_more_than_the_timeout(server: WebServer) -> None:
    server.answer = lambda request: None

    answer = client(server.url, timeout_s=0.2).post("/x", b"{}")

    assert (answer.outcome, answer.why) == ("failed", "no whole answer in time")


@pytest.mark.parametrize(
    "beginning", [b"", b"HTTP/1.1 500 No\r\nContent-Length: 60000\r\n\r\n", b"HTTP/1.1 100 Continue\r\n"]
)
def test_nor_does_one_that_answers_a_byte_at_a_time(beginning: bytes) -> None:
    def drip(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(beginning)
        while not over.wait(0.01):
            connection.sendall(b"X")

    with raw_server(drip) as url:
        answer = client(url, timeout_s=0.3).post("/x", b"{}")

    assert answer.outcome == "failed"


@pytest.mark.parametrize("answer", [b"\x00\xff garbage\r\n\r\n", b"", b"HTTP/1.1 abc\r\n\r\n", b"SSH-2.0-x\r\n"])
def test_garbage_is_a_failure(answer: bytes) -> None:
    with raw_server(lambda connection, over: connection.sendall(answer)) as url:
        assert client(url).post("/x", b"{}").outcome == "failed"


def test_headers_without_end_are_a_failure() -> None:
    def many(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + b"X-Y: z\r\n" * 100_000)

    with raw_server(many) as url:
        assert client(url).post("/x", b"{}").outcome == "failed"


def test_of_a_huge_answer_little_is_read() -> None:
    sent: list[int] = []

    def huge(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(b"HTTP/1.1 500 No\r\nConnection: close\r\n\r\n")
        while not over.is_set():
            sent.append(connection.send(b"A" * MAX_ANSWER_BYTES))

    with raw_server(huge) as url:
        answer = client(url).post("/x", b"{}")

    assert answer.outcome == "failed"
    assert len(answer.why) < 300


def test_nobody_there_is_a_failure_that_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    answer = client(f"http://127.0.0.1:{port}").post("/x", b"{}")

    assert (answer.outcome, answer.why) == ("failed", "ConnectionRefusedError: Connection refused")
    with pytest.raises(SinkUnreachable, match=rf"^127.0.0.1:{port}: ConnectionRefusedError"):
        client(f"http://127.0.0.1:{port}").reach()


def test_a_login_is_sent_and_a_rotated_token_is_used_at_once(server: WebServer, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    asking = client(server.url, token=SecretFile(file))

    asking.post("/x", b"{}")
    file.write_text("second\n")
    asking.post("/x", b"{}")
    client(server.url, username="ops", password=SecretStr("päss")).post("/x", b"{}")

    assert [request.headers["authorization"] for request in server.requests] == [
        "Bearer first", "Bearer second", "Basic b3BzOnDDpHNz"
    ]  # fmt: skip


def test_a_secret_is_not_shown_even_if_the_answer_quotes_it(server: WebServer) -> None:
    server.answer = lambda request: (400, {}, f"{request.path} {request.headers['authorization']}".encode())

    why = client(f"{server.url}/services/T000/secretpart?sig=SIGNED", token=SecretStr("tOkEn")).post("", b"{}").why

    assert "tOkEn" not in why
    assert "secretpart" not in why
    assert "SIGNED" not in why


def test_a_secret_with_a_line_break_does_not_make_a_header(server: WebServer) -> None:
    answer = client(server.url, token=SecretStr("a\r\nX-Evil: 1")).post("/x", b"{}")

    assert (answer.outcome, answer.why) == ("failed", "the address or a secret of it is not valid")
    assert server.requests == []


def test_only_a_trusted_certificate_of_that_host_will_do(tmp_path: Path) -> None:
    from tests.certificates import Authority

    authority = Authority(tmp_path)
    with web_server(authority.issue("hooks")) as server:
        url = server.url.replace("http:", "https:")
        stranger = client(url).post("/x", b"{}")
        trusting = HttpClient(lambda: url, timeout_s=30, ca_file=authority.cafile)
        known = trusting.post("/x", b"{}")
        trusting.reach()
        with pytest.raises(SinkUnreachable, match="certificate is not trusted"):
            client(url).reach()

    assert (stranger.outcome, known.outcome) == ("failed", "delivered")
    assert "its certificate is not trusted" in stranger.why
    assert [request.path for request in server.requests] == ["/x"]
