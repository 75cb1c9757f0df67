"""The Procfile under a host that reads one: start, work, SIGTERM, and start again."""

from __future__ import annotations

import secrets
import signal
import subprocess
import sys
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.support.installed import QMODAL, ROOT, Desk, desk
from tests.support.servers import reserved_port, run_server, server_binary
from tests.support.waiting import wait_until
from tests.support.web.gateways import get

CALL = """
import qmodal
square = qmodal.Function.from_name("quickstart", "square")
Translator = qmodal.Cls.from_name("translator", "Translator")
print(square.remote(12)[0], Translator(code="morse").encode.remote("sos")[0])
"""
SPAWN = """
import qmodal
square = qmodal.Function.from_name("quickstart", "square")
print(*(square.spawn(x).object_id for x in range(20)))
"""
PAGES = """
import qmodal

app = qmodal.App("pages")

@app.function()
@qmodal.fastapi_endpoint()
def square(x: int) -> int:
    return x * x
"""
COLLECT = """
import sys, qmodal
calls = [qmodal.FunctionCall.from_id(call) for call in sys.argv[1:]]
print([call.get(timeout=30)[0] for call in calls] == [x * x for x in range(20)])
"""


@pytest.fixture
def here() -> Iterator[Desk]:
    """A desk whose settings name a server and a key, as a host's variables would."""
    key = secrets.token_hex(32)
    with (
        run_server(server_binary()) as server,
        desk(QMODAL_REDIS_URL=server.url, QMODAL_SIGNING_KEY=key) as made,
    ):
        yield made


@pytest.fixture
def port() -> Iterator[int]:
    """A port that the host gives to the gateway."""
    with reserved_port() as free:
        yield free


@contextmanager
def hosted(here: Desk, port: int) -> Iterator[subprocess.Popen[str]]:
    """honcho with our Procfile, whose third process has that PORT; SIGTERM at the end, and nothing may be left."""
    honcho = (sys.executable, "-m", "honcho", "-f", str(ROOT / "Procfile"), "start")
    with here.start(*honcho, "-p", str(port - 200)) as process:
        yield process
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=15)
        assert process.returncode == 128 + signal.SIGTERM, output
    assert "SIGKILL" not in output
    here.wait_until_empty()


@pytest.mark.timeout(120)
def test_deployed_apps_answer_any_process_and_outlive_a_restart_of_everything(
    here: Desk, port: int
) -> None:
    (here.base / "pages.py").write_text(PAGES)
    url = f"http://127.0.0.1:{port}/pages/square?x=12"
    with hosted(here, port):
        here.run(QMODAL, "deploy", ROOT / "examples" / "quickstart.py")
        here.run(QMODAL, "deploy", ROOT / "examples" / "translator.py")
        here.run(QMODAL, "deploy", "pages.py")
        assert here.python(CALL) == "144 ... --- ..."
        assert answer(url) == (200, "144")
    calls = here.python(SPAWN).split()
    with hosted(here, port):
        assert here.python(COLLECT, *calls) == "True"
        assert answer(url) == (200, "144")


def answer(url: str) -> tuple[int, str]:
    """What a gateway answers that perhaps does not listen yet."""

    def asked() -> tuple[int, str] | None:
        with suppress(urllib.error.URLError):
            return get(url)
        return None

    found = wait_until(asked, what="the gateway listens", seconds=30)
    assert found is not None
    return found


def test_each_line_of_the_procfile_becomes_the_process_itself() -> None:
    # Without exec, the host's SIGTERM would end a shell and leave what the shell started.
    lines = (ROOT / "Procfile").read_text().splitlines()
    assert dict(line.split(": ") for line in lines) == {
        "autoscaler": "exec qmodal autoscaler",
        "worker": "exec qmodal worker",
        "web": "exec qmodal web",
        "control": "exec qmodal control",
    }
