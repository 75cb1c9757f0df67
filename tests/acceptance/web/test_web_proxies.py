"""The configurations for nginx and Caddy in docs/web.md, in front of a gateway, with TLS."""

from __future__ import annotations

import json
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.support.installed import QMODAL, ROOT, desk
from tests.support.waiting import wait_until
from tests.support.web.up import Site, served

PAGE = ROOT / "docs" / "web.md"
LABEL, PATH = "site-seen.example.com", "/site/seen"
# What is larger altogether than 256 KiB is passed on while it comes.
HALF = 256 * 1024
NGINX = """
daemon off;
worker_processes 1;
pid {folder}/pid;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{block}
}}
"""
CADDY = """
{{
    admin off
    auto_https off
}}
{block}
"""
pytestmark = pytest.mark.timeout(180)


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy in front of a site, with a certificate of its own."""

    site: Site
    port: int
    certificate: Path

    def ask(self, host: str, path: str, *options: str) -> str:
        """The body that curl gets from there."""
        there = ("--resolve", f"{host}:{self.port}:127.0.0.1", "--cacert", str(self.certificate))
        return self.site.curl(f"https://{host}:{self.port}{path}", *there, *options)

    def opened(self, host: str) -> ssl.SSLSocket:
        """A connection to it, as to that host."""
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        return self.context().wrap_socket(plain, server_hostname=host)

    def context(self) -> ssl.SSLContext:
        """What believes its certificate."""
        return ssl.create_default_context(cafile=str(self.certificate))


def block_of(language: str) -> str:
    """The fenced block of the page."""
    (found,) = re.findall(
        rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL
    )
    return str(found)


def nginx(folder: Path, port: int, gateway: int) -> Sequence[str | Path]:
    """Its command, with the page's block as its configuration."""
    block = block_of("nginx").replace("listen 443", f"listen 127.0.0.1:{port}")
    block = block.replace("127.0.0.1:8000", f"127.0.0.1:{gateway}")
    block = re.sub(r"/etc/ssl/example.com/(\w+).pem", rf"{folder}/\1.pem", block)
    (folder / "conf").write_text(NGINX.format(folder=folder, block=block))
    return (_program("nginx"), "-p", folder, "-e", "stderr", "-c", folder / "conf")


def caddy(folder: Path, port: int, gateway: int) -> Sequence[str | Path]:
    """Its command, with the page's block as its configuration but for the certificate's origin."""
    keys = f"    tls {folder}/fullchain.pem {folder}/privkey.pem\n"
    block = re.sub(
        r"^    tls \{.*?^    \}\n", keys, block_of("caddyfile"), flags=re.MULTILINE | re.DOTALL
    )
    hosts = f"https://example.com:{port}, https://*.example.com:{port}"
    block = block.replace("example.com, *.example.com", hosts)
    block = block.replace("127.0.0.1:8000", f"127.0.0.1:{gateway}")
    (folder / "conf").write_text(CADDY.format(block=block))
    return (_program("caddy"), "run", "--adapter", "caddyfile", "--config", folder / "conf")


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


PROXIES = {"nginx": nginx, "caddy": caddy}


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A gateway, and the app that tells what it sees."""
    with desk(QMODAL_WEB_TRUSTED_PROXIES="127.0.0.1") as here, served(here) as made:
        here.run(QMODAL, "deploy", Path(__file__).with_name("site_seen.py"))
        yield made


@pytest.fixture(scope="module", params=PROXIES)
def proxy(request: pytest.FixtureRequest, site: Site) -> Iterator[Proxy]:
    """Each of the proxies in turn, if it is installed."""
    folder, port = site.here.base / request.param, _free_port()
    folder.mkdir()
    command = PROXIES[request.param](folder, port, site.port)
    _certify(folder)
    with _running(site, command):
        made = Proxy(site, port, folder / "fullchain.pem")
        wait_until(lambda: _accepts(port), what=f"{request.param} is up", seconds=30)
        yield made


def _certify(folder: Path) -> None:
    names = "subjectAltName=DNS:example.com,DNS:*.example.com"
    files = ("-keyout", folder / "privkey.pem", "-out", folder / "fullchain.pem")
    options = ("-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=example.com", "-days", "1")
    command = (_program("openssl"), "req", *options, "-addext", names, *files)
    subprocess.run(command, check=True, capture_output=True)


@contextmanager
def _running(site: Site, command: Sequence[str | Path]) -> Iterator[None]:
    with site.here.start(*command) as process:
        yield
        process.terminate()
        said, _ = process.communicate(timeout=20)
        assert "emerg" not in said, said


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize(("host", "root"), [(LABEL, ""), ("example.com", PATH)])
def test_both_forms_of_a_url_lead_through_it_with_the_clients_scheme_and_address(
    proxy: Proxy, host: str, root: str
) -> None:
    lies = ("X-Forwarded-For: 192.0.2.7", "X-Forwarded-Host: other", "X-Forwarded-Proto: http")
    options = [word for lie in lies for word in ("--header", lie)]
    assert json.loads(proxy.ask(host, f"{root}/where", *options)) == {
        "url": f"https://{host}:{proxy.port}{root}/where",
        "client": "127.0.0.1",
        "root": root,
    }


def test_events_come_through_it_one_by_one(proxy: Proxy) -> None:
    gate = proxy.site.here.base / f"gate-{proxy.port}"
    with proxy.opened(LABEL) as peer:
        request = f"GET /gated?gate={gate} HTTP/1.1\r\nHost: {LABEL}\r\nConnection: close\r\n\r\n"
        peer.sendall(request.encode())
        said = b""
        while b"begun" not in said:
            said += peer.recv(4096)
        assert b"done" not in said
        gate.touch()
        while more := peer.recv(4096):
            said += more
    assert b"data: done" in said


def test_the_body_of_a_request_comes_through_it_while_it_is_sent(proxy: Proxy) -> None:
    marker = proxy.site.here.base / f"marker-{proxy.port}"
    with proxy.opened(LABEL) as peer:
        head = f"POST /upload?marker={marker} HTTP/1.1\r\nHost: {LABEL}\r\nConnection: close\r\n"
        peer.sendall(f"{head}Content-Length: {2 * HALF}\r\n\r\n".encode() + bytes(HALF))
        wait_until(marker.exists, what="the app has a part of the body", seconds=60)
        peer.sendall(bytes(HALF))
        said = b""
        while more := peer.recv(4096):
            said += more
    assert said.startswith(b"HTTP/1.1 200")
    assert str(2 * HALF).encode() in said


def test_a_websocket_leads_through_it(proxy: Proxy) -> None:
    peer = socket.create_connection(("127.0.0.1", proxy.port), timeout=60)
    address = f"wss://{LABEL}:{proxy.port}/echo"
    with connect(address, sock=peer, ssl=proxy.context(), proxy=None) as connection:
        connection.send("hello")
        assert connection.recv(timeout=60) == "hello"
