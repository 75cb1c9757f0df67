"""Gateways as people start them: by themselves, with `qmodal up`, and for a program of their own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests.support.installed import QMODAL, Desk, desk
from tests.support.servers import reserved_port, run_server, server_binary
from tests.support.waiting import wait_until
from tests.support.web.gateways import gateways_below, get

PYTHON = QMODAL.with_name("python")
PROGRAM = """
import sys
import time
import urllib.request
from pathlib import Path
import psutil
import qmodal

app = qmodal.App("pages")

@app.function()
@qmodal.asgi_app()
def site():
    async def answer(scope, receive, send):
        if scope["type"] != "http":
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"page one"})
    return answer

def fetch() -> str:
    with urllib.request.urlopen(site.get_web_url()) as response:
        return response.read().decode()

@app.local_entrypoint()
def main(marker: str = "") -> None:
    print(fetch(), flush=True)
    if marker:
        Path(marker).touch()
        time.sleep(60)

if __name__ == "__main__":
    with app.run():
        print(fetch())
"""
TRIVIAL = """
import psutil
import qmodal

app = qmodal.App("trivial")

@app.function()
def square(x: int) -> int:
    return x * x

@app.local_entrypoint()
def main() -> None:
    print(square.remote(3))
    lines = [each.cmdline() for each in psutil.Process().children(recursive=True)]
    print(sum("web" in line for line in lines))
"""
# What makes a process believe that a package is not installed.
WITHOUT = "import sys; sys.modules['uvicorn'] = None\n"
PAGE = "pages/site"


@pytest.fixture
def here() -> Iterator[Desk]:
    """A person's machine, with two programs on it."""
    with desk() as made:
        put_programs(made)
        yield made
        made.wait_until_empty()


def put_programs(here: Desk) -> None:
    (here.base / "pages.py").write_text(PROGRAM)
    (here.base / "trivial.py").write_text(TRIVIAL)


@contextmanager
def served() -> Iterator[Desk]:
    """A desk with a server of its own, and nothing else on that."""
    with (
        run_server(server_binary()) as server,
        desk(QMODAL_REDIS_URL=server.url, QMODAL_SIGNING_KEY="0123456789abcdef" * 4) as made,
    ):
        yield made
        made.wait_until_empty()


@contextmanager
def up(here: Desk, *options: str) -> Iterator[tuple[psutil.Process, list[str]]]:
    """`qmodal up`, and the lines that it begins with."""
    with here.start(QMODAL, "up", *options) as process:
        assert process.stdout is not None
        lines: list[str] = []
        while not lines or not lines[-1].startswith("Ctrl-C"):
            lines.append(process.stdout.readline())
            assert lines[-1], lines
        yield psutil.Process(process.pid), lines
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=30)
        assert process.returncode == 0, rest


def address(lines: list[str]) -> str:
    """The gateway's address as `qmodal up` tells it."""
    (line,) = [each for each in lines if each.startswith("Web functions are served at ")]
    return line.split()[-1]


def answers(url: str, text: str) -> bool:
    try:
        return get(url) == (200, text)
    except OSError:  # nobody listens there yet
        return False


def test_a_newcomers_web_functions_are_served_while_the_program_runs(here: Desk) -> None:
    assert here.run(QMODAL, "run", "pages.py").splitlines()[-1] == "page one"
    assert here.run(PYTHON, "pages.py") == "page one\n"


def test_a_program_without_web_functions_has_no_gateway(here: Desk) -> None:
    assert here.run(QMODAL, "run", "trivial.py") == "9\n0\n"


def test_the_gateway_of_a_program_that_was_killed_is_gone_with_it(here: Desk) -> None:
    marker = here.base / "marker"
    with here.start(QMODAL, "run", "pages.py", "--marker", str(marker)) as running:
        wait_until(marker.exists, what="the page was fetched", seconds=30)
        (gateway,) = gateways_below(running.pid)
        os.kill(running.pid, signal.SIGKILL)
        running.wait(5)
        gateway.wait(15)
    here.wait_until_empty()
    marker.unlink()


def test_a_port_that_was_set_and_is_taken_is_named(here: Desk) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        here.settings["QMODAL_WEB_PORT"] = port
        assert here.run(QMODAL, "run", "trivial.py") == "9\n0\n"
        with here.start(QMODAL, "run", "pages.py") as process:
            said, _ = process.communicate(timeout=30)
    assert process.returncode == 2
    assert f"port {port}" in said
    assert "QMODAL_WEB_PORT" in said


def test_serve_keeps_the_gateway_while_it_publishes_anew(here: Desk) -> None:
    with reserved_port() as port:
        here.settings["QMODAL_WEB_PORT"] = str(port)
        url = f"http://127.0.0.1:{port}/{PAGE}"
        with here.start(QMODAL, "serve", "pages.py") as serving:
            wait_until(lambda: answers(url, "page one"), what="the page", seconds=40, pause=0.1)
            before = gateways_below(serving.pid)
            (here.base / "pages.py").write_text(PROGRAM.replace("page one", "page two"))
            wait_until(lambda: answers(url, "page two"), what="the new", seconds=40, pause=0.1)
            assert gateways_below(serving.pid) == before
            serving.send_signal(signal.SIGINT)
            serving.communicate(timeout=20)


def test_up_serves_deployed_web_functions_and_programs_use_its_gateway(here: Desk) -> None:
    with up(here, "--web-port", "8400") as (process, lines):
        url = address(lines)
        here.run(QMODAL, "deploy", "pages.py")
        wait_until(lambda: answers(f"{url}/{PAGE}", "page one"), what="the page", seconds=30)
        (gateway,) = gateways_below(process.pid)
        assert here.run(QMODAL, "run", "pages.py").splitlines()[-1] == "page one"
        assert gateways_below(process.pid) == [gateway]
        gateway.kill()
        assert get(f"{url}/{PAGE}") == (200, "page one")


def test_a_second_up_gets_the_next_port_and_none_is_taken_without_a_gateway(here: Desk) -> None:
    second, third = here.base / "second", here.base / "third"
    with up(here) as (_, lines), up(here, "--home", str(second)) as (_, others):
        assert address(lines) != address(others)
        with up(here, "--home", str(third), "--no-web") as (process, said):
            assert "http" not in "".join(said)
            assert gateways_below(process.pid) == []


def test_up_without_the_extra_goes_on_and_says_so_in_one_line(here: Desk) -> None:
    hide_uvicorn(here)
    with up(here) as (process, lines):
        (line,) = [each for each in lines if "Web functions" in each]
        assert line == (
            "Web functions are not served (uvicorn missing): pip install 'qmodal[web]'\n"
        )
        assert here.run(QMODAL, "run", "trivial.py") == "9\n0\n"
        assert gateways_below(process.pid) == []


def hide_uvicorn(here: Desk) -> None:
    (here.base / "site").mkdir()
    (here.base / "site" / "sitecustomize.py").write_text(WITHOUT)
    here.settings["PYTHONPATH"] = str(here.base / "site")


@contextmanager
def gateway(here: Desk, *options: str) -> Iterator[subprocess.Popen[str]]:
    """`qmodal web` from this desk; SIGTERM at the end, which it takes for a reason to end well."""
    with here.start(QMODAL, "web", *options) as process:
        yield process
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=40)
        assert process.returncode == 0, said


def serves(host: str, port: int) -> bool:
    """Whether a gateway answers there."""
    try:
        return get(f"http://{host}:{port}/nothing/here")[0] == 404
    except OSError:  # nobody listens there
        return False


def test_a_gateway_is_for_this_machine_unless_a_host_gives_it_a_port() -> None:
    with served() as here, reserved_port() as port:
        with gateway(here, "--port", str(port)):
            wait_until(lambda: serves("127.0.0.1", port), what="it serves", seconds=20)
            assert not serves("127.0.0.2", port)
        here.settings["PORT"] = str(port)
        with gateway(here):
            wait_until(lambda: serves("127.0.0.2", port), what="it serves", seconds=20)
        with gateway(here, "--host", "127.0.0.1"):
            wait_until(lambda: serves("127.0.0.1", port), what="it serves", seconds=20)
            assert not serves("127.0.0.2", port)


def test_what_a_gateway_cannot_start_with_is_said_in_one_line() -> None:
    with served() as here, socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"127.0.0.1:{port} (Address already in use)" in refusal(here, "--port", port)
        here.settings["PORT"] = "many"
        assert "PORT" in refusal(here)
        del here.settings["PORT"]
        assert "example.com" in refusal(here, "--port", "0", "--url", "example.com")
        assert "--trusted-proxies" in refusal(here, "--port", "0", "--trusted-proxies", "here")
        hide_uvicorn(here)
        assert "pip install 'qmodal[web]'" in refusal(here, "--port", "0")
        assert "pip install 'qmodal[web]'" in refusal(here)


def refusal(here: Desk, *options: str) -> str:
    """What `qmodal web` says when it ends with 2, which is one line."""
    with here.start(QMODAL, "web", *options) as process:
        said, _ = process.communicate(timeout=30)
    assert process.returncode == 2, said
    (line,) = said.splitlines()
    assert line.startswith("qmodal web: ")
    return line


def test_several_gateways_serve_the_same_apps() -> None:
    with served() as here, reserved_port() as first, reserved_port() as second:
        put_programs(here)
        with (
            here.start(QMODAL, "autoscaler") as scaling,
            here.start(QMODAL, "worker") as working,
            gateway(here, "--port", str(first)),
            gateway(here, "--port", str(second)),
        ):
            here.run(QMODAL, "deploy", "pages.py")
            for port in (first, second):
                url = f"http://127.0.0.1:{port}/{PAGE}"
                wait_until(partial(answers, url, "page one"), what="the page", seconds=30)
            here.run(QMODAL, "app", "stop", "-y", "pages")
            assert json.loads(here.run(QMODAL, "app", "list", "--json")) == []
            for each in (scaling, working):
                each.send_signal(signal.SIGTERM)
                each.communicate(timeout=30)


def test_programs_and_gateways_of_one_home_share_it(here: Desk) -> None:
    # A gateway without a server finds a running `qmodal up`, as workers do.
    with up(here, "--no-web"), reserved_port() as port, gateway(here, "--port", str(port)):
        here.run(QMODAL, "deploy", "pages.py")
        url = f"http://127.0.0.1:{port}/{PAGE}"
        wait_until(lambda: answers(url, "page one"), what="the page", seconds=30)
    assert Path(here.base / ".qmodal").is_dir()
