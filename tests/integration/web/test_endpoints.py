"""Web functions in real containers, behind a gateway of the test's own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.web.requests import Gateway, fetch, in_loop


def test_a_plain_endpoint_gets_converted_query_parameters_in_a_thread(user: Any) -> None:
    answer = fetch(user.plain, url="/?x=12&name=n%C3%BC")
    assert answer.status == 200
    assert not answer.is_streamed
    found = json.loads(answer.body)
    assert (found["square"], found["name"]) == (144, "nü")
    assert found["thread"] != "MainThread"


def test_what_cannot_be_converted_is_422_in_fastapis_words(user: Any) -> None:
    answer = fetch(user.plain, url="/?x=much")
    assert answer.status == 422
    assert json.loads(answer.body)["detail"][0]["loc"] == ["query", "x"]


def test_an_endpoint_has_one_route_for_one_verb(user: Any) -> None:
    assert fetch(user.plain, "POST", "/?x=1").status == 405
    assert fetch(user.plain, url="/other").status == 404
    assert fetch(user.plain, url="/docs").status == 404


def test_any_page_may_ask(user: Any) -> None:
    asked = {"origin": "https://elsewhere.test", "access-control-request-method": "GET"}
    answer = fetch(user.plain, "OPTIONS", headers=asked)
    assert answer.status == 200
    assert answer.header("access-control-allow-origin") == "https://elsewhere.test"


def test_a_body_becomes_a_model_and_the_response_can_be_changed(user: Any) -> None:
    body = json.dumps({"name": "pear"}).encode()
    answer = fetch(user.create, "POST", body=body, headers={"content-type": "application/json"})
    assert answer.status == 201
    found = json.loads(answer.body)
    assert (found["name"], found["price"]) == ("pear", 1.0)
    assert found["id"].startswith("in-")
    assert answer.header("set-cookie").startswith("seen=pear")
    assert fetch(user.create, "POST", body=b"{}").status == 422


def test_docs_are_there_if_they_were_asked_for(user: Any) -> None:
    assert fetch(user.create, url="/docs").status == 200
    paths = json.loads(fetch(user.create, url="/openapi.json").body)["paths"]
    assert list(paths["/"]) == ["post"]


def test_forms_and_files_are_taken(user: Any) -> None:
    lines = [
        "--frontier",
        'Content-Disposition: form-data; name="title"',
        "",
        "A title",
        "--frontier",
        'Content-Disposition: form-data; name="file"; filename="a.bin"',
        "",
        "x" * 1000,
        "--frontier--",
        "",
    ]
    kind = {"content-type": "multipart/form-data; boundary=frontier"}
    answer = fetch(user.form, "POST", body="\r\n".join(lines).encode(), headers=kind)
    assert json.loads(answer.body) == {"title": "A title", "name": "a.bin", "size": 1000}


@pytest.mark.parametrize(("how", "expected"), [("generator", "0\n1\n2\n"), ("map", "0 2 4 ")])
def test_a_response_may_stream_what_other_functions_produce(
    user: Any, how: str, expected: str
) -> None:
    assert fetch(user.streamed, url=f"/?how={how}").text == expected


def test_methods_know_their_parameters_and_say_so_in_their_docs(user: Any) -> None:
    shop = user.Shop(city="Ulm", size=2)
    answer = fetch(shop.stock_of, url="/?city=Ulm&size=2&shelf=7")
    assert json.loads(answer.body) == {"city": "Ulm", "stock": ["apple"] * 2, "shelf": 7}
    assert shop.count.remote() == 2
    described = json.loads(fetch(shop.stock_of, url="/openapi.json").body)
    found = {
        each["name"]: each["required"] for each in described["paths"]["/"]["get"]["parameters"]
    }
    assert found == {"city": True, "size": False, "shelf": False}


def test_one_container_answers_one_request_after_another(user: Any) -> None:
    async def many(gateway: Gateway) -> list[str]:
        sent = [await gateway.send(user.plain, url=f"/?x={x}") for x in range(30)]
        return [(await each.answer()).text for each in sent]

    assert [json.loads(each)["square"] for each in in_loop(many)] == [x * x for x in range(30)]
