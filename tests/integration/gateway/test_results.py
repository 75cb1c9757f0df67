"""Requests that take long: the client is sent to a page where it gets the response in the end."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from qmodal.client.client import current
from tests.support.waiting import wait_until
from tests.support.web.served import Served, served


@pytest.fixture(scope="module")
def impatient(gated: Any) -> Iterator[Served]:
    """A gateway that sends clients to result pages after half a second."""
    with served(current().settings, QMODAL_WEB_REDIRECT_SECONDS="0.5") as running:
        yield running


def page_of(gateway: Served, folder: Path, path: str = "/gated/web/waits", **more: str) -> str:
    """The address of the result page of a request that waits for a file."""
    response = gateway.request("POST", path, params={"folder": str(folder), **more}, content=b"x")
    assert response.status_code == 303
    assert response.headers["location"].startswith(f"{path}?__qmodal_result=fc-")
    return response.headers["location"]


def test_a_long_request_is_answered_on_its_result_page(impatient: Served, tmp_path: Path) -> None:
    page = page_of(impatient, tmp_path)
    again = impatient.get(page)
    assert (again.status_code, again.headers["location"]) == (303, page)
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(impatient.get, page, follow_redirects=True)
        (tmp_path / "go").touch()
        assert (answer.result().status_code, answer.result().text) == (200, "xxxx")
    assert not (tmp_path / "cancelled").exists()


def test_a_response_that_is_there_is_given_by_any_gateway(
    impatient: Served, gateway: Served, tmp_path: Path
) -> None:
    page = page_of(impatient, tmp_path)
    (tmp_path / "go").touch()
    wait_until(lambda: gateway.get(page).text == "xxxx", what="another gateway answers")
    assert impatient.get(page).text == "xxxx"


def test_another_gateway_waits_for_a_response(
    impatient: Served, gateway: Served, tmp_path: Path
) -> None:
    page = page_of(impatient, tmp_path)
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(gateway.get, page)
        (tmp_path / "go").touch()
        assert answer.result().text == "xxxx"


def test_a_large_response_waits_for_its_client_where_the_request_was(
    impatient: Served, gateway: Served, tmp_path: Path
) -> None:
    page = page_of(impatient, tmp_path, size="5000000")
    (tmp_path / "go").touch()
    assert len(impatient.get(page, follow_redirects=True).content) == 5_000_000
    assert impatient.get(page).status_code in (404, 410)
    assert gateway.get(page).status_code in (404, 410)


def test_a_client_that_gives_up_the_page_loses_nothing(impatient: Served, tmp_path: Path) -> None:
    page = page_of(impatient, tmp_path)
    with impatient.connection() as made:
        made.sendall(f"GET {page} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        assert made.recv(1)
    (tmp_path / "go").touch()
    assert impatient.get(page, follow_redirects=True).text == "xxxx"


def test_nobody_guesses_a_result(impatient: Served, tmp_path: Path) -> None:
    page = page_of(impatient, tmp_path)
    path, _, token = page.partition("=")
    call, _, signature = token.partition(".")
    for wrong in (
        f"{call}.",
        f"{call}.{'0' * 32}",
        call,
        "fc-",
        "",
        f"{call[:-1]}x.{signature}",
        "ä.ä",
    ):
        assert impatient.get(f"{path}={wrong}").status_code == 404, wrong
    # It is of that function only: another one may ask for other tokens.
    other = page.replace("/gated/web/", "/gated/slow/")
    assert impatient.get(other).status_code == 404
    (tmp_path / "go").touch()
    assert impatient.get(page, follow_redirects=True).text == "xxxx"
