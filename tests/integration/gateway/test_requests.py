"""Requests through a gateway to real containers: where they lead, what the function is told, and what is answered."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from qmodal.client.client import current
from tests.support.waiting import wait_until
from tests.support.web.served import PROGRAM, Served, served


def told(gateway: Served, path: str = "/gated/web/x", method: str = "GET", **more: Any) -> Any:
    """What the app says that it was told."""
    response = gateway.request(method, path, **more)
    assert response.status_code == 200, response.text
    return response.json()


def test_a_path_leads_to_a_function_which_gets_the_rest_of_it(gateway: Served) -> None:
    found = told(gateway, "/gated/web/some%20path/b?a=1&b=%C3%A4")
    assert found["root_path"] == "/gated/web"
    assert found["path"] == "/gated/web/some path/b"
    assert (found["method"], found["query"]) == ("GET", "a=1&b=%C3%A4")
    assert (found["scheme"], found["client"][0]) == ("http", "127.0.0.1")
    assert told(gateway, "/gated/web")["path"] == "/gated/web/"


def test_a_host_label_leads_to_a_function_whatever_follows_it(gateway: Served) -> None:
    for host in ("a-shop.example.com", "A-Shop.localhost:8000"):
        found = told(gateway, "/any/path", headers={"host": host})
        assert (found["root_path"], found["path"]) == ("", "/any/path")
    assert gateway.get("/any/path", headers={"host": "another.example.com"}).status_code == 404


def test_addresses_that_lead_nowhere_are_404_and_tell_nothing(gateway: Served) -> None:
    for path in (
        "/",
        "/gated",
        "/gated/",
        "/gated/nothing",
        "/other/web",
        "/gated%2Fweb",
        "/%ff/x",
        "//",
    ):
        response = gateway.get(path)
        assert response.status_code == 404, path
        assert "gated" not in response.text
    assert gateway.get("/healthz").text == "ok\n"


@pytest.mark.parametrize("size", [0, 10, 30_000, 100_000, 250_000, 300_000, 3_000_000])
def test_a_body_of_any_size_reaches_the_function(gateway: Served, size: int) -> None:
    assert gateway.request("POST", "/gated/web/size", content=bytes(size)).text.split()[0] == str(
        size
    )


def test_a_response_of_any_size_comes_as_soon_as_it_is_there(gated: Any, tmp_path: Path) -> None:
    """Those that are stored apart are only announced, and nothing more comes."""
    (tmp_path / "go").touch()
    patient = (
        f"from qmodal.services.gateway.exchange import calls; calls.BLOCK_SECONDS = 600; {PROGRAM}"
    )
    with served(current().settings, program=patient) as running:
        for size in (0, 15_000, 17_000, 100_000, 250_000, 300_000):
            params = {"folder": str(tmp_path), "size": str(size)}
            assert len(running.get("/gated/web/waits", params=params).content) == size
        assert running.stop() == 0  # so that the calls are forgotten


def test_a_body_of_unknown_length_reaches_the_function(gateway: Served) -> None:
    for sizes in ([], [5], [5, 100_000], [300_000, 300_000]):
        body = (bytes(each) for each in sizes)
        response = gateway.request("POST", "/gated/web/size", content=body)
        assert response.text.split()[0] == str(sum(sizes)), sizes


def test_many_requests_at_once_each_get_their_own_response(gateway: Served) -> None:
    with gateway.client() as client, ThreadPoolExecutor(20) as threads:

        def ask(number: int) -> str:
            return str(client.get(f"/gated/web/{number}?n={number}").json()["query"])

        assert list(threads.map(ask, range(200))) == [f"n={number}" for number in range(200)]


def test_class_parameters_come_from_the_query_and_choose_the_pool(
    gated: Any, gateway: Served
) -> None:
    path = "/gated/Shop.pages/"
    found = gateway.get(f"{path}?city=Bonn&size=4&is_open=no&city=K%C3%B6ln").json()
    assert found == ["Köln", 4, False, "city=Bonn&size=4&is_open=no&city=K%C3%B6ln"]
    gateway.get(f"{path}?city=Bonn")
    shop = gated.Shop(city="Bonn")
    assert shop.pages.get_current_stats().num_total_runners == 1


def test_missing_and_wrong_class_parameters_are_told_as_fastapi_tells_them(gateway: Served) -> None:
    response = gateway.get("/gated/Shop.pages?size=many&is_open=perhaps")
    assert response.status_code == 422
    integer = "Input should be a valid integer, unable to parse string as an integer"
    boolean = "Input should be a valid boolean, unable to interpret input"
    assert response.json() == {
        "detail": [
            {"type": "missing", "loc": ["query", "city"], "msg": "Field required", "input": None},
            {"type": "int_parsing", "loc": ["query", "size"], "msg": integer, "input": "many"},
            {
                "type": "bool_parsing",
                "loc": ["query", "is_open"],
                "msg": boolean,
                "input": "perhaps",
            },
        ]
    }
    assert gateway.get(f"/gated/Shop.pages?city=x&size={2**63}").status_code == 422
    assert gateway.get(f"/gated/Shop.pages?city={'x' * 20_000}").status_code == 422


def test_what_a_function_raises_is_500_without_a_word_of_it(gateway: Served) -> None:
    response = gateway.get("/gated/web/fails")
    assert response.status_code == 500
    assert response.text.startswith("Internal Server Error\nCall: fc-")
    assert "secret" not in response.text


def test_a_function_that_takes_too_long_is_504(gateway: Served, tmp_path: Path) -> None:
    response = gateway.get("/gated/short/waits", params={"folder": str(tmp_path)})
    assert response.status_code == 504


def test_a_container_that_cannot_start_is_502_without_a_word_of_why(gateway: Served) -> None:
    response = gateway.get("/gated/broken/")
    assert response.status_code == 502
    assert "secret" not in response.text


def test_a_cancelled_request_is_503(gated: Any, gateway: Served, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as thread:
        params = {"folder": str(tmp_path)}
        answer = thread.submit(gateway.get, "/gated/web/waits", params=params)
        wait_until((tmp_path / "began").exists, what="it runs")
        client = current()
        (call,) = {
            key.decode().split(":call:")[1].split(":")[0]
            for key in _keys("*:call:fc-*")
            if b":outputs" not in key
        }
        running = client.run(client.calls.cancel(call))
        client.run(client.calls.nudge_cancelled(running))
        response = answer.result()
    assert response.status_code == 503
    assert response.headers["retry-after"]


def _keys(pattern: str) -> list[bytes]:
    import redis

    with redis.Redis.from_url(current().settings.redis_url or "") as plain:
        return list(plain.scan_iter(pattern))


@pytest.mark.parametrize(
    "kind", ["break", "name", "status", "interim", "lengths", "short", "bad-late"]
)
def test_a_response_that_cannot_be_sent_is_502_and_nothing_of_it_is_sent(
    gateway: Served, kind: str
) -> None:
    response = gateway.get(f"/gated/web/{kind}")
    assert response.status_code == 502
    assert response.text.startswith("The function's response is bad: ")
    assert "set-cookie" not in response.headers
    assert "x-a" not in response.headers


def test_what_belongs_to_the_connection_is_the_gateways_own(gateway: Served) -> None:
    response = gateway.get("/gated/web/hop")
    assert response.text == "ok"
    assert "keep-alive" not in response.headers
    assert response.headers["date"] != "never"
    assert "server" not in response.headers


def test_responses_without_a_body_have_none(gateway: Served) -> None:
    for kind, status in (("none", 204), ("same", 304)):
        response = gateway.get(f"/gated/web/{kind}")
        assert (response.status_code, response.content) == (status, b"")
    with gateway.client() as client:
        for _ in range(2):  # nothing is left on the connection
            head = client.head("/gated/web/x")
            assert (head.status_code, head.content) == (200, b"")
            assert client.get("/gated/web/x").status_code == 200


def test_a_function_gets_the_headers_of_the_client_and_none_of_the_connection(
    gateway: Served,
) -> None:
    sent = [
        ("x-own", "1"),
        ("x-own", "2"),
        ("connection", "keep-alive, x-hop"),
        ("x-hop", "1"),
        ("te", "trailers"),
        ("modal-secret", "ws-secret"),
        ("x_forwarded_for", "1.2.3.4"),
        ("cookie", "a=b"),
    ]
    found = told(gateway, headers=sent)["headers"]
    names = [name for name, _ in found]
    assert [value for name, value in found if name == "x-own"] == ["1", "2"]
    assert ["cookie", "a=b"] in found
    for dropped in ("connection", "x-hop", "te", "modal-secret", "x_forwarded_for"):
        assert dropped not in names


def test_a_request_id_is_taken_over_or_made_and_given_back(gateway: Served) -> None:
    response = gateway.get("/gated/web/x", headers={"x-request-id": "mine-1"})
    assert response.headers["x-request-id"] == "mine-1"
    assert ["x-request-id", "mine-1"] in response.json()["headers"]
    made = {gateway.get("/gated/web/x").headers["x-request-id"] for _ in range(3)}
    assert len(made) == 3
    response = gateway.get("/gated/web/x", headers={"x-request-id": "a b\tc"})
    assert response.headers["x-request-id"] != "a b\tc"


def test_a_protected_function_wants_a_token(gateway: Served) -> None:
    client = current()
    token = client.run(client.tokens.create("test"))
    right = {"modal-key": token.key, "modal-secret": token.secret}
    for wrong in (
        {},
        {"modal-key": token.key},
        {**right, "modal-secret": "ws-x"},
        {**right, "modal-key": "wk"},
    ):
        response = gateway.get("/gated/guarded/x", headers=wrong)
        assert response.status_code == 401, wrong
    found = told(gateway, "/gated/guarded/x", headers=right)
    assert ["modal-key", token.key] in found["headers"]
    assert token.secret not in json.dumps(found)
    client.run(client.tokens.revoke(token.key))
    wait_until(
        lambda: gateway.get("/gated/guarded/x", headers=right).status_code == 401,
        what="a revoked token is refused",
        seconds=30,
    )
