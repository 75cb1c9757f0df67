"""The parts that answer requests in a container, without a server: scopes, headers, and a run of an app."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from qmodal.exception import ExecutionError
from qmodal.spec.web import WebSpec
from qmodal.wire.web import WHOLE_BYTES, Message, Request, Response, unpack_response
from qmodal_workers.container.run.slot import Slot
from qmodal_workers.container.web.apps.needed import imported
from qmodal_workers.container.web.apps.proxy_headers import as_text, forwarded, passed_on
from qmodal_workers.container.web.asgi_run import Delivery
from qmodal_workers.container.web.functions import WebFunctions
from qmodal_workers.container.web.http_run import HttpRun
from qmodal_workers.container.web.scope import http_scope, websocket_scope

START = {"type": "http.response.start", "status": 200, "headers": []}


def request(**changes: Any) -> Request:
    made = Request(
        protocol="http",
        method="GET",
        scheme="https",
        http_version="1.1",
        raw_path=b"/",
        query=b"",
        root_path="",
        headers=[],
        client=None,
        server=None,
        inbox="00gateway",
    )
    return made._replace(**changes)


class Streams:
    """Opens streams that keep what is sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Any]] = []

    async def open(self, *_args: Any, **_options: Any) -> Any:
        return self

    def send_now(self, kind: str, data: Any = None) -> None:
        self.sent.append((kind, data))

    async def send(self, kind: str, data: Any = None) -> None:
        self.sent.append((kind, data))

    async def take(self) -> Message:
        return Message("", "", 0, "end")

    async def flush(self) -> None:
        """All is written."""

    def close(self) -> None:
        """Nothing is open."""


def answered(
    app: Callable[..., Awaitable[None]], **changes: Any
) -> tuple[Response, list[tuple[str, Any]]]:
    """The result of the app's run, and what was streamed."""

    async def run() -> tuple[Response, list[tuple[str, Any]]]:
        streams: Any = Streams()
        delivery = Delivery("fc-1", "ta-1", "1-1", 0, Slot())
        made = HttpRun(request(**changes), delivery, streams)
        made.start(app, http_scope(made.request, {}))
        await made.ended
        return unpack_response(await made.result()), streams.sent

    return asyncio.run(run())


def part(body: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}


def test_a_path_is_decoded_behind_its_prefix_and_the_raw_one_is_kept() -> None:
    scope = http_scope(request(raw_path=b"/a%2Fb/%C3%BC%ff", root_path="/app/f"), {"a": 1})
    assert scope["path"] == "/app/f/a/b/ü\N{REPLACEMENT CHARACTER}"
    assert scope["raw_path"] == b"/app/f/a%2Fb/%C3%BC%ff"
    assert scope["state"] == {"a": 1}
    assert http_scope(request(root_path="/app/größe"), {})["raw_path"] == b"/app/gr%C3%B6%C3%9Fe/"


def test_a_server_behind_is_told_the_client_unless_a_trusted_proxy_has_told_it() -> None:
    told = [(b"x-forwarded-for", b"192.0.2.1"), (b"x-forwarded-proto", b"https")]
    scope: dict[str, Any] = {
        "client": ("192.0.2.1", 5),
        "scheme": "wss",
        "root_path": "/app/ö",
        "headers": [],
    }
    assert forwarded(scope) == [*told, (b"x-forwarded-prefix", b"/app/%C3%B6")]
    scope |= {"client": ("10.0.0.1", 5), "scheme": "http", "root_path": "", "headers": told}
    assert forwarded(scope) == []


def test_a_websocket_has_a_scheme_of_its_own_and_names_its_subprotocols() -> None:
    headers = [(b"sec-websocket-protocol", b"a, b"), (b"sec-websocket-protocol", b"c")]
    scope = websocket_scope(request(protocol="websocket", headers=headers), {})
    assert (scope["scheme"], scope["subprotocols"]) == ("wss", ["a", "b", "c"])


def test_headers_of_one_connection_are_not_passed_on() -> None:
    given = [
        (b"Connection", b"close, X-One"),
        (b"x-one", b"1"),
        (b"Keep-Alive", b"5"),
        (b"Set-Cookie", b"a=1"),
        (b"Set-Cookie", b"b=2"),
    ]
    assert passed_on(given) == [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
    assert as_text([(b"x", "ü".encode()), (b"y", b"\xfc")]) == [("x", "ü"), ("y", "ü")]


def test_a_missing_package_is_named_with_how_to_install_it() -> None:
    with pytest.raises(ExecutionError, match=r"'no_such_package'.*pip install 'qmodal\[web\]'"):
        imported("no_such_package.part")


def test_a_loop_that_always_runs_is_for_apps_that_do_things_by_themselves() -> None:
    kinds = {"fastapi_endpoint": False, "asgi_app": True, "wsgi_app": True, "web_server": True}
    for kind, expected in kinds.items():
        specs = {"": WebSpec.from_plain({"kind": kind})}
        assert WebFunctions(specs, (), 1).needs_loop == expected


def test_a_small_response_is_the_result() -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({**START, "status": 201, "headers": [(b"a", b"b")]})
        await send(part(b"one", more=True))
        await send(part(b"two"))

    result, streamed = answered(app)
    assert tuple(result) == (201, [[b"a", b"b"]], b"onetwo")
    assert streamed == []


def test_a_large_response_is_streamed_in_pieces() -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send(START)
        await send(part(bytes(WHOLE_BYTES + 1)))

    result, streamed = answered(app)
    assert result.status == 0
    assert [kind for kind, _ in streamed] == ["start", "body", "body", "body", "end"]
    assert sum(len(data) for kind, data in streamed if kind == "body") == WHOLE_BYTES + 1


@pytest.mark.parametrize("more", [True, False])
def test_a_response_whose_app_goes_on_is_streamed(more: bool) -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send(START)
        await send(part(b"first", more=more))
        await asyncio.sleep(0.05)
        if more:
            await send(part(b"last"))

    result, streamed = answered(app)
    assert result.status == 0
    bodies = [b"first", b"last"] if more else [b"first"]
    assert streamed == [("start", [200, []]), *(("body", each) for each in bodies), ("end", None)]


def test_who_listens_for_a_disconnect_hears_of_the_end_of_the_response() -> None:
    heard: list[str] = []

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        listening = asyncio.create_task(receive())
        await asyncio.sleep(0)
        await send(START)
        await send(part(b"all"))
        heard.append((await listening)["type"])
        heard.append((await receive())["type"])

    assert answered(app)[0].body == b"all"
    assert heard == ["http.disconnect"] * 2


def test_the_response_to_head_is_without_its_body() -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({**START, "headers": [(b"content-length", b"4")]})
        await send(part(b"body"))

    assert tuple(answered(app, method="HEAD")[0]) == (200, [[b"content-length", b"4"]], b"")


@pytest.mark.parametrize(
    "events",
    [
        [part(b"no start")],
        [START, START],
        [START, part(b""), part(b"after its end")],
        [{"type": "http.response.odd"}],
    ],
)
def test_an_event_that_is_not_its_turn_is_an_error_of_the_app(events: list[dict[str, Any]]) -> None:
    heard: list[str] = []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        try:
            for each in events:
                await send(each)
        except RuntimeError as error:
            heard.append(str(error))

    async def run() -> None:
        streams: Any = Streams()
        made = HttpRun(request(), Delivery("fc-1", "ta-1", "1-1", 0, Slot()), streams)
        made.start(app, {})
        await made.ended

    asyncio.run(run())
    assert len(heard) == 1
    assert "not its turn" in heard[0]


def test_an_error_after_a_whole_response_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({**START, "status": 500})
        await send(part(b"sorry"))
        raise ValueError("on purpose")

    assert tuple(answered(app)[0]) == (500, [], b"sorry")
    assert "ValueError: on purpose" in capsys.readouterr().err


def test_an_error_before_a_whole_response_is_raised() -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send(START)
        raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        answered(app)
