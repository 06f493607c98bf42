"""A client through TLS: something that speaks it in front, as a proxy does, and the plain server behind."""

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from edge_runtime.errors import ConfigError
from edge_runtime.serve.client import EdgeClient
from tests.edge_runtime.serve.conftest import TOKEN, Live, Served, png

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made as docs/server.md says, key and certificate in one file."""
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=robot",
            "-addext", "subjectAltName=DNS:localhost", "-keyout", "robot.key", "-out", "robot.pem",
        ],
        check=True, capture_output=True, timeout=60, cwd=folder,
    )  # fmt: skip
    return folder / "robot.pem"


@contextmanager
def in_front_of(server: Served, certificate: Path) -> Iterator[str]:
    """The address of something that takes TLS off and passes the rest on, connection by connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        accepting = threading.Thread(target=accept, args=(listening, context, server.port), daemon=True)
        accepting.start()
        yield f"https://localhost:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)
        accepting.join(10)


def accept(listening: socket.socket, context: ssl.SSLContext, port: int) -> None:
    with suppress(OSError):
        while True:
            plain, _ = listening.accept()
            with suppress(OSError):  # who does not like the certificate hangs up
                outside = context.wrap_socket(plain, server_side=True)
                inside = socket.create_connection(("127.0.0.1", port))
                for pair in ((outside, inside), (inside, outside)):
                    threading.Thread(target=passed_on, args=pair, daemon=True).start()


def passed_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError), source, target:
        while data := source.recv(65536):
            target.sendall(data)


def test_a_client_that_trusts_the_certificate_asks(guarded: Served, certificate: Path) -> None:
    with (
        in_front_of(guarded, certificate) as url,
        EdgeClient(url, token=TOKEN, ca_file=certificate) as client,
    ):
        assert client.refer(png(), "the cup").bundle == "nano"


def test_one_that_does_not_refuses(guarded: Served, certificate: Path) -> None:
    with (
        in_front_of(guarded, certificate) as url,
        EdgeClient(url, token=TOKEN) as client,
        pytest.raises(httpx.ConnectError, match="certificate"),
    ):
        client.state()


@pytest.mark.slow
def test_the_stream_goes_through_too(live: Live, certificate: Path) -> None:
    with in_front_of(live.served, certificate) as url, EdgeClient(url, ca_file=certificate) as client:
        assert next(iter(client.stream())).kind


def test_a_file_that_holds_no_certificate_is_named(tmp_path: Path) -> None:
    (tmp_path / "rubbish.pem").write_text("nothing")
    for name in ("rubbish.pem", "gone.pem"):
        with pytest.raises(ConfigError, match=name):
            EdgeClient("https://localhost", ca_file=tmp_path / name)
