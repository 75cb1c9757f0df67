"""The gateway of a stack: its socket, when it starts, what becomes of it, and who waits for it."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import qmodal
from qmodal.client.client import Client
from qmodal.config import Settings
from qmodal.embedded.gateway import GATEWAY_HOST, listen_near, listen_on
from qmodal.embedded.stack import Stack, start_private
from qmodal.embedded.up import start_kept
from qmodal.exception import ConfigurationError
from qmodal.runner.gateway import declares_web, gateway_ready, publishes_web, start_gateway
from qmodal.runner.run import ensure_server
from tests.support.servers import no_process_left
from tests.support.stacks import ROOT, short_folder
from tests.support.waiting import wait_until
from tests.support.web.gateways import gateways_below, get

plain = qmodal.App("plain")
guarded = qmodal.App("guarded")


@plain.function()
def square(x: int) -> int:
    return x * x


@guarded.cls()
class Site:
    @qmodal.asgi_app()
    def pages(self) -> None: ...


@pytest.fixture(autouse=True)
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The temporary folder of this test alone; child processes import qmodal from here."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with short_folder() as folder:
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        monkeypatch.setenv("TMPDIR", str(folder))
        yield folder


@pytest.fixture
def stack() -> Iterator[Stack]:
    """A private stack of which only the server and perhaps a gateway run."""
    with no_process_left(), start_private(Settings(), children={}) as started:
        yield started


@pytest.fixture
def owner(stack: Stack) -> Iterator[Client]:
    """The client of the process that has started it."""
    made = Client(Settings(redis_url=stack.url, signing_key=stack.key), stack=stack)
    yield made
    made.close()


def test_who_comes_second_gets_the_next_port() -> None:
    first = listen_near(8700)
    second = listen_near(first.port)
    assert second.port != first.port
    assert second.url == f"http://127.0.0.1:{second.port}"
    with pytest.raises(ConfigurationError, match=f"port {first.port}.*QMODAL_WEB_PORT"):
        listen_on(first.port)
    for each in (first, second):
        each.close()


def test_the_last_ports_are_followed_by_any_free_one() -> None:
    taken = [listen_near(65535)]
    while taken[-1].port == 65535:
        taken.append(listen_near(65535))
    assert 0 < taken[-1].port < 65535
    for each in taken:
        each.close()


def test_a_gateway_starts_when_it_is_asked_for_and_ends_with_its_stack(
    stack: Stack, owner: Client
) -> None:
    assert not start_gateway(owner, has_web=False)
    assert gateways_below(stack.supervisor) == []
    assert owner.run(owner.gateways.newest()) is None
    for _ in range(2):  # a second app, and a second publication, find the same one
        assert start_gateway(owner, has_web=True)
        owner.run(gateway_ready(owner))
    url = owner.run(owner.gateways.newest())
    assert url is not None
    assert get(f"{url}/nothing/here")[0] == 404
    assert len(gateways_below(stack.supervisor)) == 1


def test_a_killed_gateway_is_back_at_its_address_and_requests_wait_for_it(
    stack: Stack, owner: Client
) -> None:
    start_gateway(owner, has_web=True)
    owner.run(gateway_ready(owner))
    url = owner.run(owner.gateways.newest())
    (before,) = gateways_below(stack.supervisor)
    before.kill()
    before.wait()
    assert get(f"{url}/nothing/here")[0] == 404
    (after,) = gateways_below(stack.supervisor)
    assert after.pid != before.pid
    assert owner.run(owner.gateways.newest()) == url


def test_a_port_that_is_taken_concerns_only_apps_with_web_functions() -> None:
    with socket.create_server((GATEWAY_HOST, 0)) as taken:
        settings = Settings(web_port=taken.getsockname()[1])
        with start_private(settings, children={}) as stack:
            told = replace(settings, redis_url=stack.url, signing_key=stack.key)
            owner = Client(told, stack=stack)
            assert not start_gateway(owner, has_web=False)
            with pytest.raises(ConfigurationError, match="QMODAL_WEB_PORT to a free one"):
                start_gateway(owner, has_web=True)
            owner.close()


def test_a_private_stack_uses_the_port_that_was_set() -> None:
    free = listen_on(0)
    port = free.port
    free.close()
    with start_private(Settings(web_port=port), children={}) as stack:
        owner = Client(Settings(redis_url=stack.url, signing_key=stack.key), stack=stack)
        start_gateway(owner, has_web=True)
        owner.run(gateway_ready(owner))
        assert owner.run(owner.gateways.newest()) == f"http://127.0.0.1:{port}"
        owner.close()


def test_a_kept_stack_says_at_once_where_its_gateway_will_be(base: Path) -> None:
    started = start_kept(Settings(home=base / "home"), children={}, web_port=8700)
    try:
        status, _ = get(f"{started.gateway_url}/nothing/here")
        assert status == 404
        assert len(gateways_below(started.stack.supervisor)) == 1
    finally:
        started.stack.close()


def test_without_a_stack_of_its_own_a_client_starts_none(client: Client) -> None:
    assert not start_gateway(client, has_web=True)


def test_what_is_missing_is_said_in_one_line(
    stack: Stack, owner: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("qmodal.embedded.gateway.GATEWAY_NEEDS", ("no_such_package",))
    assert not start_gateway(owner, has_web=True)
    assert caplog.messages == [
        "web functions are not served (no_such_package missing): pip install 'qmodal[web]'"
    ]


def test_apps_with_web_functions_are_known_before_and_after_they_are_published(
    base: Path,
) -> None:
    assert not declares_web(plain._registry)
    assert declares_web(guarded._registry)
    settings = Settings(home=base / "home")
    with ensure_server(settings) as client, plain.run(), guarded.run():
        versions = [each._registry.version for each in (plain, guarded)]
        found = [version is not None and publishes_web(version) for version in versions]
        assert found == [False, True]
        assert client.run(client.gateways.newest()) is not None


def test_a_gateway_that_does_not_start_is_explained_and_stops_nothing(
    stack: Stack, owner: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("qmodal.runner.gateway.GATEWAY_SECONDS", 0.1)
    log = stack.place.folder / "stack.log"
    log.write_text("08:00:00 qmodal: web ended with exit code 2; starting it again in 1 s\n")
    owner.run(gateway_ready(owner))  # nobody has asked for one
    (message,) = caplog.messages
    assert message.startswith("no gateway has started after")
    assert message.endswith("\n  " + log.read_text().strip())


def test_threads_that_ask_at_once_get_one_gateway(stack: Stack, owner: Client) -> None:
    threads = [
        threading.Thread(target=start_gateway, args=(owner,), kwargs={"has_web": True})
        for _ in range(5)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    owner.run(gateway_ready(owner))
    wait_until(lambda: len(gateways_below(stack.supervisor)) == 1, what="one gateway")


def test_a_forked_child_leaves_the_gateway_to_its_parent(stack: Stack, owner: Client) -> None:
    child = os.fork()
    if child == 0:
        os._exit(start_gateway(owner, has_web=True))
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert gateways_below(stack.supervisor) == []
