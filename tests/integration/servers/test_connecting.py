"""Connections over TCP and TLS, for both drivers: who answers, whom we trust, who lets us in."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from qmodal.exception import ConfigurationError, ConnectionError
from qmodal.transport.connection import Address, Connection
from qmodal.transport.operation import Exchange
from qmodal.transport.sockets import opening
from tests.support.servers import TestServer, run_server, server_binary
from tests.support.store.driving import DRIVERS

PING = Exchange(((b"PING",),), patience=0.0)
Wrap = Callable[[socket.socket], socket.socket]


@pytest.fixture(params=list(DRIVERS))
def make(request: pytest.FixtureRequest) -> str:
    """The name of a driver."""
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def guarded() -> Iterator[TestServer]:
    """A server with a password."""
    with run_server(server_binary(), "--requirepass", "right") as running:
        yield running


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of `localhost`, signed by itself, with its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl program")
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    options = (
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    )
    names = ["-addext", "subjectAltName=DNS:localhost"]
    command = [openssl, *options.split(), *names, "-keyout", str(file), "-out", f"{file}.crt"]
    subprocess.run(command, check=True, capture_output=True)
    file.write_text(file.read_text() + Path(f"{file}.crt").read_text())
    return file


@contextmanager
def forwarded(server: TestServer, wrap: Wrap) -> Iterator[int]:
    """The port of 127.0.0.1 behind which is the server, whose own socket has a path."""
    path = server.url.removeprefix("unix://")
    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as ends:
        threading.Thread(target=_accept, args=(listener, wrap, path, ends), daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket, wrap: Wrap, path: str, ends: ExitStack) -> None:
    with suppress(OSError):
        while True:
            peer, _ = listener.accept()
            ends.enter_context(peer)
            try:
                near = ends.enter_context(wrap(peer))
            except OSError:  # it does not trust us
                continue
            far = ends.enter_context(socket.socket(socket.AF_UNIX))
            far.connect(path)
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=_pump, args=(source, target), daemon=True).start()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_RDWR)


def test_a_server_is_reached_over_tcp(make: str, guarded: TestServer) -> None:
    with forwarded(guarded, lambda peer: peer) as port:
        driver = DRIVERS[make](Address(f"redis://:right@localhost:{port}/3?client_name=me"))
        asked = Exchange(((b"PING",), (b"CLIENT", b"GETNAME"), (b"CLIENT", b"INFO")))
        pong, name, info = driver.exchange(asked)
        driver.close()
    assert (pong, name) == (b"PONG", b"me")
    assert b" db=3 " in info


def test_an_address_of_a_family_that_this_machine_does_not_know_is_passed_over(
    make: str, guarded: TestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = opening._places
    unknown = (socket.AF_APPLETALK, ("::1", 0, 0, 0))
    monkeypatch.setattr(opening, "_places", lambda found: [unknown, *places(found)])
    with forwarded(guarded, lambda peer: peer) as port:
        driver = DRIVERS[make](Address(f"redis://:right@localhost:{port}"))
        assert driver.exchange(PING) == [b"PONG"]
        driver.close()


def test_a_server_is_reached_over_tls(make: str, guarded: TestServer, certificate: Path) -> None:
    large = Exchange(((b"SET", b"x", b"y" * 1_000_000), (b"GETDEL", b"x")))
    with _secured(guarded, certificate) as port:
        url = f"rediss://:right@localhost:{port}?ssl_ca_certs={certificate}.crt"
        driver = DRIVERS[make](Address(url))
        assert driver.exchange(large) == [b"OK", b"y" * 1_000_000]
        driver.close()


def test_a_server_that_nobody_vouches_for_is_not_trusted(
    make: str, guarded: TestServer, certificate: Path
) -> None:
    with _secured(guarded, certificate) as port:
        driver = DRIVERS[make](Address(f"rediss://:right@localhost:{port}"))
        with pytest.raises(
            ConfigurationError, match=r"not trusted: .*CERTIFICATE_VERIFY_FAILED.*ssl_ca_certs"
        ):
            driver.exchange(PING)
        driver.close()
        trusting = DRIVERS[make](Address(f"rediss://:right@localhost:{port}?ssl_cert_reqs=none"))
        assert trusting.exchange(PING) == [b"PONG"]
        trusting.close()


def test_a_server_of_another_name_is_not_trusted(
    make: str, guarded: TestServer, certificate: Path
) -> None:
    options = f"ssl_ca_certs={certificate}.crt"
    with _secured(guarded, certificate) as port:
        driver = DRIVERS[make](Address(f"rediss://:right@127.0.0.1:{port}?{options}"))
        with pytest.raises(
            ConfigurationError, match=r"not trusted: .*CERTIFICATE_VERIFY_FAILED.*ssl_ca_certs"
        ):
            driver.exchange(PING)
        driver.close()
        url = f"rediss://:right@127.0.0.1:{port}?{options}&ssl_check_hostname=no"
        careless = DRIVERS[make](Address(url))
        assert careless.exchange(PING) == [b"PONG"]
        careless.close()


def _secured(server: TestServer, certificate: Path) -> AbstractContextManager[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return forwarded(server, lambda peer: context.wrap_socket(peer, server_side=True))


@pytest.mark.parametrize("option", ["", "?socket_timeout=3"], ids=["plain", "by redis-py"])
@pytest.mark.parametrize(
    ("login", "sentence"),
    [
        (":needless@{open}", "let us in: AUTH <password> called without any password"),
        (":wrong@{guarded}", "let us in: invalid username-password pair"),
        ("nobody:right@{guarded}", "let us in: invalid username-password pair"),
        (":right@{guarded}&db=99", "accept the connection: DB index is out of range. Check"),
        (":right@{guarded}&db=-1", "accept the connection: DB index is out of range. Check"),
        (":right@{guarded}&client_name=a%20b", "accept the connection: Client names cannot"),
        ("{guarded}", "let us in: NOAUTH Authentication required. Check"),
    ],
)
def test_what_a_server_says_to_a_login_is_told_alike(
    *, make: str, server: TestServer, guarded: TestServer, login: str, sentence: str, option: str
) -> None:
    paths = {"open": server.url, "guarded": guarded.url}
    places = {name: url.removeprefix("unix://") + (option or "?") for name, url in paths.items()}
    driver = DRIVERS[make](Address("unix://" + login.format(**places)))
    with pytest.raises(ConfigurationError, match=sentence):
        driver.exchange(PING)
    driver.close()


@pytest.mark.parametrize("option", ["", "?socket_timeout=3"], ids=["plain", "by redis-py"])
@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("redis://127.0.0.1:1", "Error 111 connecting to 127.0.0.1:1. Connect"),
        ("redis://localhost:1", "Error 111 connecting to localhost:1. Connect"),
        ("redis://no-such-host.invalid", "connecting to no-such-host.invalid:6379."),
        ("unix:///nowhere/s", "Error 2 connecting to /nowhere/s. No such file or directory"),
    ],
)
def test_why_a_server_cannot_be_reached_is_told_alike(
    make: str, url: str, sentence: str, option: str
) -> None:
    driver = DRIVERS[make](Address(url + option))
    with pytest.raises(ConnectionError, match=f"cannot be reached: .*{sentence}"):
        driver.exchange(PING)
    driver.close()


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:1?max_connections=3",
        "unix:///nowhere/s?dbb=1",
        "rediss://127.0.0.1:1?ssl_cert_reqs=maybe",
        "redis://127.0.0.1:1?db=one",
        "redis://127.0.0.1:port",
        "http://127.0.0.1:1",
    ],
)
def test_a_url_that_cannot_be_used_says_so(make: str, url: str) -> None:
    driver = DRIVERS[make](Address(url))
    with pytest.raises(ConfigurationError, match="the Redis URL"):
        driver.exchange(PING)
    driver.close()


def test_a_connection_that_is_dropped_leaves_no_descriptor(server: TestServer) -> None:
    line = Connection(Address(server.url))
    line.connect()
    sock = line._sock
    assert sock is not None
    del line
    assert sock.fileno() == -1


USES = """
import sys
from qmodal.transport.connection import Address
from qmodal.transport.operation import Exchange
from tests.support.store.driving import DRIVERS
before = "redis" in sys.modules
for make in DRIVERS.values():
    driver = make(Address(sys.argv[1]))
    assert driver.exchange(Exchange(((b"PING",),))) == [b"PONG"]
    driver.close()
print(before, "redis" in sys.modules)
"""


@pytest.mark.parametrize(
    ("option", "imported"), [("?db=1", "False"), ("?socket_timeout=5", "True")]
)
def test_only_what_is_more_than_a_plain_url_imports_redis_py(
    server: TestServer, option: str, imported: str
) -> None:
    command = [sys.executable, "-c", USES, server.url + option]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    assert found.stdout.split() == ["False", imported]
