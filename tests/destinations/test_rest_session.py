"""The session with an MLflow server: what is sent, to whom, and what an answer is taken for."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import socket
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from trackside.destinations.mlflow.credentials import authorisation
from trackside.destinations.mlflow.errors import translate
from trackside.destinations.mlflow.rest_client import RestClient
from trackside.destinations.mlflow.rest_session import RestSession, decode, tls_options
from trackside.errors import DeliveryError, RejectedError, RetryableError, UnauthorisedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.outside

PING = "/api/2.0/mlflow/experiments/search"


class Echo(ThreadingHTTPServer):
    """Keeps the heads of the requests, and answers each with ``answer``, raw bytes."""

    def __init__(self, family: int = socket.AF_INET) -> None:
        self.address_family = family
        self.seen: list[tuple[str, dict[str, str], bytes]] = []
        self.raw = reply(200, b"{}")
        self.closes = False
        super().__init__(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0), EchoHandler)
        threading.Thread(target=self.serve_forever, args=[0.05], daemon=True).start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def header(self, name: str) -> str | None:
        """Of the last request."""
        return self.seen[-1][1].get(name.lower())


class EchoHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Echo

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        heads = {name.lower(): value for name, value in self.headers.items()}
        self.server.seen.append((self.path, heads, body))
        self.wfile.write(self.server.raw)
        self.close_connection = self.server.closes or b"Content-Length" not in self.server.raw

    do_GET = do_POST = do_PUT = _answer  # noqa: N815 - names of the base class

    def handle(self) -> None:
        """As always, without a word on clients that hang up."""
        with contextlib.suppress(OSError):
            super().handle()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""


def reply(status: int, body: bytes, **headers: str) -> bytes:
    """An answer as it is on the wire."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = "\r\n".join([f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *lines])
    return f"{head}\r\n\r\n".encode() + body


@pytest.fixture
def echo() -> Iterator[Echo]:
    """A server."""
    server = Echo()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials, no proxies, and a home without files."""
    for name in ("USERNAME", "PASSWORD", "TOKEN", "INSECURE_TLS", "SERVER_CERT_PATH", "CLIENT_CERT_PATH"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "NETRC", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def basic(text: str) -> str:
    """The header for ``name:password``."""
    return "Basic " + base64.b64encode(text.encode()).decode()


def failure(client: RestClient) -> DeliveryError:
    """What a failing call means for the delivery."""
    with pytest.raises(Exception) as raised:  # noqa: PT011 - its meaning is what counts
        client.ping()
    return translate(raised.value)


# Credentials


def test_credentials_in_mlflows_order(echo: Echo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """None, a token, the file, the environment, the address and ``~/.netrc``: a later one counts."""
    client = RestClient(echo.url)
    client.ping()
    assert echo.header("Authorization") is None
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0ken")
    client.ping()
    assert echo.header("Authorization") == "Bearer t0ken"
    (tmp_path / ".mlflow").mkdir()
    kept = "[mlflow]\nmlflow_tracking_username = kept\nmlflow_tracking_password = 100%\n"
    (tmp_path / ".mlflow" / "credentials").write_text(kept)
    client.ping()
    assert echo.header("Authorization") == basic("kept:100%")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "Zoë")
    client.ping()
    assert echo.header("Authorization") == basic("Zoë:100%")
    RestClient(echo.url.replace("//", "//me:a%40b@")).ping()
    assert echo.header("Authorization") == basic("me:a@b")
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login net password rc\n")
    client.ping()
    assert echo.header("Authorization") == basic("net:rc")


def test_half_of_the_credentials_are_none() -> None:
    """A name alone does not log in."""
    assert authorisation({"MLFLOW_TRACKING_USERNAME": "me"}) == {}
    assert authorisation({"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_TOKEN": "t"}) == {
        "Authorization": "Bearer t"
    }


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_takes_nothing_along(echo: Echo, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the request nor the credentials; the user is told the other address."""
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0ken")
    other = Echo()
    echo.raw = reply(status, b"<html>moved</html>", Location=other.url + PING)
    error = failure(RestClient(echo.url))
    assert isinstance(error, RetryableError)
    assert other.url in str(error)
    assert not other.seen
    other.shutdown()
    other.server_close()


# The address


def test_a_path_before_the_api_is_kept(echo: Echo) -> None:
    """With and without a slash at its end."""
    for end in ("/mlflow", "/mlflow/"):
        RestClient(echo.url + end).ping()
        assert echo.seen[-1][0] == f"/mlflow{PING}"


def test_an_ipv6_address() -> None:
    """As ``http://[::1]:port``."""
    try:
        server = Echo(socket.AF_INET6)
    except OSError:  # this machine has no IPv6, so nothing can be said
        return
    RestClient(f"http://[::1]:{server.port}").ping()
    assert server.seen
    server.shutdown()
    server.server_close()


def test_the_environments_proxy_is_used(echo: Echo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless ``no_proxy`` names the server."""
    monkeypatch.setenv("http_proxy", echo.url)
    RestClient("http://mlflow.invalid:5000").ping()
    assert echo.seen[-1][0] == f"http://mlflow.invalid:5000{PING}"
    monkeypatch.setenv("no_proxy", "mlflow.invalid")
    assert isinstance(failure(RestClient("http://mlflow.invalid:5000")), RetryableError)
    assert len(echo.seen) == 1


# Answers


def test_answers_in_other_wrappings(echo: Echo) -> None:
    """Packed, in chunks, with a mark of byte order, with numbers as texts and fields left out."""
    body = b'{"run": {"info": {"run_uuid": "r", "start_time": "12"}, "data": {"metrics": [{"key": "a", '
    body += b'"value": NaN, "step": "7"}], "tags": null}, "new": [1]}}'
    packed = gzip.compress(body)
    chunked = b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n"
    for part in (body[:10], body[10:]):
        chunked += b"%x\r\n%s\r\n" % (len(part), part)
    for raw in (
        reply(200, body),
        reply(200, packed, Content_Encoding="gzip"),
        chunked + b"0\r\n\r\n",
        reply(200, b"\xef\xbb\xbf" + body),
    ):
        echo.raw = raw
        run = RestClient(echo.url).get_run("r")
        assert (run.info.run_id, run.info.start_time, run.info.end_time) == ("r", 12, None)
        assert run.data.last == {"a": (7, 0)}


@pytest.mark.parametrize(
    "raw",
    [
        reply(200, b"<!doctype html><html>Please sign in</html>"),
        reply(200, b""),
        reply(200, b"[]"),
        reply(200, b'"{}"'),
        reply(200, b"[" * 100_000),
        reply(204, b""),
        reply(200, b"{}", Content_Encoding="gzip"),
        reply(200, b"{}")[:-1].replace(b"Content-Length", b"content-length"),
        b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
        b"HTTP/1.1 2",
        b"",
        reply(502, b"<html>Bad Gateway</html>"),
        reply(503, b'{"message": "no healthy upstream"}'),
        reply(504, b"upstream timed out"),
        reply(404, b"<html>nginx</html>"),
        reply(400, b"<html>The plain HTTP request was sent to HTTPS port</html>"),
        reply(429, b"slow down"),
        reply(500, b'{"error_code": "INTERNAL_ERROR", "message": "x"}'),
        reply(503, b'{"error_code": "TEMPORARILY_UNAVAILABLE", "message": "database is locked"}'),
    ],
    ids=range(19),
)
def test_what_is_not_mlflows_word_is_tried_again(echo: Echo, raw: bytes) -> None:
    """A login page, an answer cut short, a gateway's error: none of them is a success, nor a rejection."""
    echo.raw = raw
    assert isinstance(failure(RestClient(echo.url)), RetryableError)


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (reply(401, b"You are not authenticated"), UnauthorisedError),
        (reply(403, b'{"error_code": "PERMISSION_DENIED", "message": "no"}'), UnauthorisedError),
        (reply(413, b"<html>Request Entity Too Large</html>"), RejectedError),
        (reply(400, b'{"error_code": "INVALID_PARAMETER_VALUE", "message": "no"}'), RejectedError),
        (reply(404, b'{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no"}'), RejectedError),
    ],
)
def test_what_is_about_the_request_counts(echo: Echo, raw: bytes, kind: type[DeliveryError]) -> None:
    """A refused login is waited for, MLflow's own word and a body that is too large are final."""
    echo.raw = raw
    assert type(failure(RestClient(echo.url))) is kind


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("soon", None)])
def test_the_pause_a_server_asks_for(echo: Echo, header: str, seconds: float | None) -> None:
    """Is waited."""
    echo.raw = reply(429, b"slow down", Retry_After=header)
    error = failure(RestClient(echo.url))
    assert isinstance(error, RetryableError)
    assert error.retry_after == seconds


def test_a_connection_that_was_dropped_is_made_again(echo: Echo) -> None:
    """A server that was restarted, or tires of idle connections: at most the next request is tried again."""
    client = RestClient(echo.url)
    client.ping()
    echo.closes = True  # from some answer on, without a word in its head
    failures: list[Exception] = []
    for _ in range(6):
        try:
            client.ping()
        except OSError as error:  # sent while the server hung up
            failures.append(error)
    assert all(isinstance(translate(error), RetryableError) for error in failures)
    assert len(echo.seen) > 2


def test_no_answer_in_time(echo: Echo, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as ``MLFLOW_HTTP_REQUEST_TIMEOUT`` says."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        error = failure(RestClient(f"http://127.0.0.1:{silent.getsockname()[1]}"))
    assert isinstance(error, RetryableError)
    assert "no answer in time" in str(error)


def test_words_of_an_error_hold_no_credentials(echo: Echo) -> None:
    """Neither those of the address nor those that a proxy throws back."""
    echo.raw = reply(502, b"bad request: Authorization: Basic bWU6aHVudGVyMjI=")
    address = echo.url.replace("//", "//me:hunter22@")
    texts = [str(failure(RestClient(address)))]
    echo.shutdown()
    echo.server_close()
    texts.append(str(failure(RestClient(address))))
    for text in texts:
        assert "hunter22" not in text
        assert "bWU6aHVudGVyMjI" not in text


def test_json_as_python_reads_it() -> None:
    """Half of a surrogate pair, which stricter readers refuse, is a text; an unending one is an error."""
    assert decode(b'{"a": "\\ud800", "b": NaN}', dict)["a"] == "\ud800"
    for text in (b"{", b"", b"\xff", b"nothing"):
        with pytest.raises(ValueError):  # noqa: PT011 - whatever it says
            decode(text, dict)


def test_bodies_are_json(echo: Echo) -> None:
    """Texts of every script, as UTF-8."""
    RestClient(echo.url).set_tag("r", "ключ", "値\n")
    assert json.loads(echo.seen[-1][2]) == {"run_uuid": "r", "run_id": "r", "key": "ключ", "value": "値\n"}
    assert echo.header("Content-Type") == "application/json"
    assert (echo.header("User-Agent") or "").startswith("trackside/")


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file with a self-signed certificate for 127.0.0.1, and its key."""
    import datetime as dt
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mlflow")])
    now = dt.datetime.now(dt.timezone.utc)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=2))
        .not_valid_after(now + dt.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return str(file)


@pytest.fixture
def secure(echo: Echo, certificate: str) -> str:
    """The address of a server with a certificate that no authority has signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    echo.socket = context.wrap_socket(echo.socket, server_side=True, do_handshake_on_connect=False)
    return echo.url.replace("http:", "https:")


def test_an_unknown_certificate_is_refused(secure: str) -> None:
    """And tried again, as the authority may become known."""
    error = failure(RestClient(secure))
    assert isinstance(error, RetryableError)
    assert "the server's TLS certificate is not accepted" in str(error)


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MLFLOW_TRACKING_INSECURE_TLS", "True"),
        ("MLFLOW_TRACKING_SERVER_CERT_PATH", None),
        ("REQUESTS_CA_BUNDLE", None),
    ],
)
def test_a_certificate_that_the_user_trusts(
    secure: str, certificate: str, name: str, value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By MLflow's variables, and by that of ``requests``, also if it is set after the first try."""
    client = RestClient(secure)
    failure(client)
    monkeypatch.setenv(name, value or certificate)
    client.ping()


def test_tls_variables_that_contradict_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Are an error at once; later, with renewed variables, the delivery waits for better ones."""
    with pytest.raises(RejectedError, match="neither true nor false"):
        tls_options({"MLFLOW_TRACKING_INSECURE_TLS": "maybe"})
    session = RestSession("http://127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", "ca.pem")
    with pytest.raises(RejectedError, match="Unset one of them"):
        RestSession("http://127.0.0.1:1")
    with pytest.raises(UnauthorisedError):
        session.get(PING, msgspec.Raw)


def test_a_certificate_of_our_own() -> None:
    """Is handed on, with and without a check of the server's."""
    assert tls_options({"MLFLOW_TRACKING_CLIENT_CERT_PATH": "me.pem"}) == {"verify": True, "cert": "me.pem"}
    assert tls_options({"MLFLOW_TRACKING_INSECURE_TLS": "1"}) == {"verify": False}
