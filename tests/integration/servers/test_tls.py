"""A server that speaks only TLS: every process works over it, and none trusts a server that nobody vouches for."""

from __future__ import annotations

import datetime
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.installed import QMODAL, Desk, desk
from tests.support.servers import reserved_port
from tests.support.waiting import wait_until
from tests.support.web.gateways import get

PROGRAM = """
import time, qmodal
app = qmodal.App("over-tls")

@app.function()
def square(x: int) -> int:
    return x * x

@app.function()
def relay(x: int) -> int:
    return square.remote(x)

@app.function(schedule=qmodal.Period(seconds=1))
def tick() -> None:
    qmodal.Dict.from_name("ticks", create_if_missing=True)["last"] = time.time()

@app.function()
@qmodal.fastapi_endpoint()
def page(x: int) -> int:
    return x * x
"""
CALLS = """
import asyncio, qmodal
square, relay = (qmodal.Function.from_name("over-tls", name) for name in ("square", "relay"))
async def many():
    return await asyncio.gather(*(square.remote.aio(x) for x in range(50)))
assert relay.remote(3) == 9
assert list(square.map(range(300))) == [x * x for x in range(300)]
assert asyncio.run(many()) == [x * x for x in range(50)]
queue = qmodal.Queue.from_name("own", create_if_missing=True)
queue.put(1)
assert queue.get() == 1
print("done")
"""
LOOK = """
import qmodal
ticks = qmodal.Dict.from_name("ticks")
try: print("last" in ticks)
except qmodal.exception.NotFoundError: print(False)
"""


@dataclass(frozen=True)
class Authority:
    """What signs certificates, in a file of its own."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    file: Path


def authority(folder: Path, name: str) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    made = _certificate(name, key, name, key, is_authority=True)
    file = folder / f"{name}.crt"
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return Authority(made, key, file)


def issued(by: Authority, folder: Path, name: str) -> tuple[Path, Path]:
    """The files of a certificate of `localhost` and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    made = _certificate("localhost", key, by.file.stem, by.key, is_authority=False)
    files = folder / f"{name}.crt", folder / f"{name}.key"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    signer: ec.EllipticCurvePrivateKey,
    *,
    is_authority: bool,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    subject, by = (
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in (name, issuer)
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    )
    return builder.sign(signer, hashes.SHA256())


@contextmanager
def tls_server(folder: Path, by: Authority) -> Iterator[int]:
    """The port of a server that asks its clients for certificates of the same authority."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("needs a redis-server with TLS")
    certificate, key = issued(by, folder, "server")
    options = {
        "port": "0",
        "dir": str(folder),
        "save": "",
        "tls-cert-file": str(certificate),
        "tls-key-file": str(key),
        "tls-ca-cert-file": str(by.file),
        "tls-auth-clients": "yes",
        "requirepass": "pw",
    }
    argv = [part for name, value in options.items() for part in (f"--{name}", value)]
    log = folder / "log"
    with (
        reserved_port() as port,
        log.open("wb") as out,
        subprocess.Popen([binary, *argv, "--tls-port", str(port)], stdout=out) as server,
    ):
        try:
            wait_until(
                lambda: "eady to accept" in log.read_text() or server.poll() is not None,
                what="a server with TLS",
            )
            if server.poll() is not None:
                pytest.skip("this redis-server has no TLS")
            yield port
        finally:
            server.kill()


@contextmanager
def _running(here: Desk, *command: str) -> Iterator[None]:
    with here.start(QMODAL, *command) as process:
        yield
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output


@pytest.mark.timeout(180)
def test_all_processes_work_over_tls_with_verification(tmp_path: Path) -> None:
    ours = authority(tmp_path, "ours")
    certificate, key = issued(ours, tmp_path, "client")
    with (
        tls_server(tmp_path, ours) as port,
        reserved_port() as web,
        desk(QMODAL_SIGNING_KEY=secrets.token_hex(32)) as here,
        ExitStack() as stack,
    ):
        own = f"ssl_certfile={certificate}&ssl_keyfile={key}&ssl_min_version=772"
        url = f"rediss://:pw@localhost:{port}?ssl_ca_certs={ours.file}&{own}"
        here.settings["QMODAL_REDIS_URL"] = url
        (here.base / "over_tls.py").write_text(PROGRAM)
        for command in ("autoscaler", "worker", "control", f"web --port {web}"):
            stack.enter_context(_running(here, *command.split()))
        here.run(QMODAL, "deploy", "over_tls.py")
        assert here.python(CALLS) == "done"
        assert get(f"http://127.0.0.1:{web}/over-tls/page?x=12") == (200, "144")
        wait_until(lambda: here.python(LOOK) == "True", what="a schedule", seconds=60, pause=0.2)


def test_a_server_of_another_authority_is_refused_with_what_to_do(tmp_path: Path) -> None:
    ours, others = authority(tmp_path, "ours"), authority(tmp_path, "others")
    with (
        tls_server(tmp_path, ours) as port,
        desk(QMODAL_SIGNING_KEY=secrets.token_hex(32)) as here,
    ):
        url = f"rediss://:pw@localhost:{port}?ssl_ca_certs={others.file}"
        here.settings["QMODAL_REDIS_URL"] = url
        for command in ("worker", "app list"):
            with here.start(QMODAL, *command.split()) as process:
                output, _ = process.communicate(timeout=50)
            assert process.returncode == 2, output
            assert "the server's certificate is not trusted" in output
            assert "?ssl_ca_certs=FILE" in output
