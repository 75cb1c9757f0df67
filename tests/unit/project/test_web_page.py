"""docs/web.md: its limits, settings, defaults and examples are those of the code."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import qmodal
from qmodal.client.web_stream import WINDOW_BYTES
from qmodal.embedded.gateway import GATEWAY_PORT
from qmodal.exception import InvalidError
from qmodal.services.gateway.options import GIB, GatewayOptions
from qmodal.spec.options import FunctionOptions, check_concurrency
from qmodal.spec.web import DEV, KEPT_LABEL, MOST_LABEL, host_label
from qmodal.store.web.inboxes import INBOX_MS
from qmodal.wire.web import MOST_WEBSOCKET_BYTES, WHOLE_BYTES
from qmodal_workers.container.web.under_way import LOOK_SECONDS, MOST_MISSES

PAGE = (Path(__file__).parents[3] / "docs" / "web.md").read_text(encoding="utf-8")
KIB, MIB = 1024, 1024**2
MOST_AT_ONCE = 1000


def section(title: str) -> str:
    """The text below that heading."""
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def table(title: str) -> dict[str, str]:
    """The first table below that heading: the second cell of each row by its first."""
    rows = re.findall(r"^\| (.+?) \| (.+?) \|", section(title), re.MULTILINE)
    return dict(rows[2:])


def test_every_limit_is_that_of_the_code() -> None:
    options = GatewayOptions()
    gone = INBOX_MS / 1000 + MOST_MISSES * LOOK_SECONDS
    assert table("Limits") == {
        "body of a request": f"{options.max_body // GIB} GiB; `QMODAL_WEB_MAX_BODY`, in bytes",
        "a body stops arriving": f"{options.body_timeout:g} s without a byte; `QMODAL_WEB_BODY_SECONDS`",
        "requests of a pool that wait": f"{options.queue}; `QMODAL_WEB_QUEUE`",
        "no beginning of a response": f"{options.redirect_after:g} s; `QMODAL_WEB_REDIRECT_SECONDS`",
        "time for a request": f"`timeout` of the function, {FunctionOptions().timeout:g} s",
        "Redis is away": f"{options.patience:g} s",
        "message of a websocket": f"{MOST_WEBSOCKET_BYTES // MIB} MiB",
        "body inside the input or its result": f"{WHOLE_BYTES // KIB} KiB",
        "not taken yet in one direction of a stream": f"{WINDOW_BYTES // KIB} KiB",
        "requests at once in a container": f"`max_inputs`, {MOST_AT_ONCE} at most",
        "a gateway dies": f"within {gone:g} s",
    }


def test_a_container_has_no_more_requests_at_once_than_is_said() -> None:
    check_concurrency(MOST_AT_ONCE, 1)
    with pytest.raises(InvalidError):
        check_concurrency(MOST_AT_ONCE + 1, 1)


def test_what_a_stop_leaves_to_requests_is_said() -> None:
    assert f"finishes what it has within {GatewayOptions().grace:g} s" in PAGE


def test_every_decorator_is_there_with_its_defaults() -> None:
    said = {}
    for cell in table("Decorators"):
        ((name, arguments),) = re.findall(r"`@(\w+)\((.*)\)`", cell)
        said[name] = dict(re.findall(r"(\w+)=([^,]+)", arguments))
    assert said.keys() == {
        "fastapi_endpoint",
        "web_endpoint",
        "asgi_app",
        "wsgi_app",
        "web_server",
    }
    for name, defaults in said.items():
        parameters = inspect.signature(getattr(qmodal, name)).parameters
        real = {each: parameters[each].default for each in defaults}
        assert defaults == {each: repr(value).replace("'", '"') for each, value in real.items()}
        assert {"label", "custom_domains", "requires_proxy_auth"} <= parameters.keys()


@pytest.mark.parametrize(
    ("what", "parts"),
    [
        ("function `greet` of the app `hello`", ("hello", "greet")),
        ("method `baz` of `MyClass`", ("hello", "MyClass.baz")),
        ("in the environment `test`", ("test", "hello", "greet")),
        ("while `qmodal run` or `qmodal serve` runs it", ("hello", "greet", DEV)),
    ],
)
def test_the_labels_are_those_that_the_code_makes(what: str, parts: tuple[str, ...]) -> None:
    assert table("URLs")[what].startswith(f"`{host_label(*parts)}`")
    assert table("URLs")[f"more than {MOST_LABEL} characters"].startswith(
        f"the first {KEPT_LABEL},"
    )


def test_the_port_of_a_gateway_is_said() -> None:
    assert f"`127.0.0.1:{GATEWAY_PORT}`" in PAGE
