"""The signing key and the server's password: where user code runs, nothing shows them by accident."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from qmodal.client.client import Client
from qmodal.config import Settings
from qmodal.spec.options import validated_options
from tests.support.boxes import Box, Fleet
from tests.support.servers import TestServer, no_process_left
from tests.support.waiting import wait_until

pytestmark = pytest.mark.leaves_keys

PASSWORD = "pass+word of 22 letters"
QUOTED = "pass%2Bword%20of%2022%20letters"
SOURCE = """
import os, subprocess, sys
from pathlib import Path

AT_IMPORT = dict(os.environ)

def add(x, y):
    return x + y

def environs():
    seen = [repr(AT_IMPORT), repr(dict(os.environ)), subprocess.check_output(["env"], text=True)]
    for pid in ("self", str(os.getppid())):
        for name in ("environ", "cmdline"):
            seen.append(Path(f"/proc/{pid}/{name}").read_text())
    return seen

def tell(*texts):
    for text in texts:
        print("told", text)
    print("told all", flush=True)

def ask(code):
    return subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True
    ).stdout.strip()

"""
FAILING = "import sys\nraise RuntimeError('the key is ' + %r)\ndef add(x, y): pass\n"
ASK = "import qmodal; print(qmodal.Function.from_name('shop', 'add').remote(20, 3))"


@pytest.fixture
def settings(server: TestServer, settings: Settings) -> Iterator[Settings]:
    """Those of a worker that logs in with a password; all of it is in its environment."""
    url = server.url.replace("unix://", f"unix://someone:{QUOTED}@")
    with server.plain() as plain:
        plain.execute_command("ACL", "SETUSER", "someone", "on", f">{PASSWORD}", "allkeys")
        plain.execute_command("ACL", "SETUSER", "someone", "allchannels", "+@all")
        yield replace(settings, redis_url=url)
        plain.execute_command("ACL", "DELUSER", "someone")


@pytest.fixture
def box(fleet: Fleet, settings: Settings) -> Iterator[Box]:
    """A worker that has the URL by its host's name for it, too."""
    with no_process_left(), fleet.box(REDIS_URL=settings.redis_url or "") as made:
        yield made


def spellings(client: Client) -> list[str]:
    """How the credentials could be seen."""
    key = client.settings.signing_key or b""
    return [key.hex(), key.hex().upper(), repr(key)[2:-1], PASSWORD, QUOTED]


@pytest.mark.parametrize("fork", [True, False], ids=["forked", "afresh"])
def test_no_environment_or_command_line_that_user_code_sees_holds_the_credentials(
    fleet: Fleet, box: Box, tmp_path: Path, *, fork: bool
) -> None:
    pool = fleet.publish(tmp_path / "src", SOURCE, {"environs": validated_options(fork=fork)})
    fleet.ready(box, pool["environs"])
    seen = fleet.value(fleet.call(pool["environs"]))
    for pid in [box.process.pid, *box.family()]:
        seen += [Path(f"/proc/{pid}/{name}").read_text() for name in ("environ", "cmdline")]
    found = [text for text in seen for secret in spellings(fleet.client) if secret in text]
    assert found == []


def test_a_process_that_a_job_starts_finds_the_server_and_calls_functions(
    fleet: Fleet, box: Box, tmp_path: Path
) -> None:
    pools = fleet.publish(tmp_path / "src", SOURCE, {"ask": None, "add": None})
    for pool in pools.values():
        fleet.ready(box, pool)
    assert fleet.value(fleet.call(pools["ask"], ASK)) == "23"


def test_the_credentials_are_stars_in_the_log_however_they_came_there(
    fleet: Fleet, box: Box, tmp_path: Path
) -> None:
    pool = fleet.publish(tmp_path / "src", SOURCE, {"tell": None})["tell"]
    report = fleet.ready(box, pool)
    told = spellings(fleet.client)
    fleet.value(fleet.call(pool, *told, "x" * 70_000 + told[0]))
    wait_until(lambda: b"told all" in fleet.printed(report.app), what="it is logged")
    log = fleet.printed(report.app).decode()
    assert [secret for secret in told if secret in log] == []
    assert log.count("told ***\n") == len(told)


def test_a_failed_start_does_not_tell_the_credentials(
    fleet: Fleet, box: Box, tmp_path: Path
) -> None:
    key = (fleet.client.settings.signing_key or b"").hex()
    pool = fleet.publish(tmp_path / "src", FAILING % key, {"add": None})["add"]
    report = fleet.until(box, fleet.assign(box, pool), "failed")
    assert "the key is ***" in report.detail
    assert key not in report.detail
