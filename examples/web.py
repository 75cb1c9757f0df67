"""Web endpoints: class parameters in the URL, events as they are produced, a page, and a body that is checked.

`qmodal run examples/web.py` asks each of them once. To use them, `qmodal serve examples/web.py`
(or `qmodal up` and `qmodal deploy examples/web.py`), and open what it prints.
"""

import json
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, StreamingResponse
from pydantic import BaseModel, Field

import qmodal

app = qmodal.App("parameterized-function-app")


@app.cls()
class MyClass:
    """A pool of containers for each pair of foo and bar, which come from the query string."""

    foo: str = qmodal.parameter()
    bar: int = qmodal.parameter(default=10)

    # The label is the first part of the host: http://parameterized-function-app.localhost:8000
    @qmodal.fastapi_endpoint(label="parameterized-function-app")
    def baz(self, qux: str = "default") -> str:
        return (
            f"This code is running in container pool ({self.foo}, {self.bar}), with input qux={qux}"
        )


@app.function()
def words(topic: str) -> Iterator[str]:
    """An answer as a model gives it, word by word; any program may call it, by `remote_gen`."""
    for word in f"all there is to say about {topic} is said here".split():
        yield word
        time.sleep(0.2)


async def events(topic: str) -> AsyncIterator[str]:
    """The words as server-sent events. The generator runs in its own pool, not where this runs."""
    async for word in words.remote_gen.aio(topic):
        yield f"data: {word}\n\n"
    # A browser asks again when a stream ends; this tells the page to close it.
    yield "event: done\ndata:\n\n"


# An open stream is an input that runs: without @concurrent, each would have a container to itself.
@app.function()
@qmodal.concurrent(max_inputs=100)
@qmodal.fastapi_endpoint()
async def stream(topic: str = "streams") -> StreamingResponse:
    """GET: `curl -N` shows the words as they come."""
    return StreamingResponse(events(topic), media_type="text/event-stream")


class Order(BaseModel):
    """The body of a POST; one that does not fit is answered with 422 and the reason."""

    item: str
    count: int = Field(default=1, ge=1, le=100)


@app.function()
@qmodal.fastapi_endpoint(method="POST", docs=True)
def order(body: Order) -> dict[str, str | int]:
    """POST; `docs=True` adds a page about it at /docs."""
    return {"item": body.item, "count": body.count, "cents": 250 * body.count}


PAGE = """<!doctype html>
<html lang="en">
<title>Words as they arrive</title>
<h1>Words as they arrive</h1>
<p id="words"></p>
<script>
const shown = document.querySelector("#words");
const source = new EventSource("ROOT/events?topic=pages");
source.onmessage = (event) => shown.append(event.data + " ");
source.addEventListener("done", () => {
  source.close();
  shown.append("(that is all)");
});
</script>
</html>
"""


@app.function()
@qmodal.concurrent(max_inputs=100)
@qmodal.asgi_app()
def page() -> FastAPI:
    """An app of its own, made once a container; it may have any routes, websockets too."""
    site = FastAPI()

    @site.get("/")
    def show(request: Request) -> HTMLResponse:
        # Where the app is below a path (/parameterized-function-app/page), its links need that path.
        return HTMLResponse(PAGE.replace("ROOT", request.scope["root_path"]))

    @site.get("/events")
    def follow(topic: str) -> StreamingResponse:
        return StreamingResponse(events(topic), media_type="text/event-stream")

    return site


@app.local_entrypoint()
def main() -> None:
    baz = MyClass(foo="hedgehog").baz.get_web_url()  # the same for all values of foo and bar
    print(read(f"{baz}?foo=hedgehog&bar=7&qux=override"))
    print(read(f"{baz}?foo=hedgehog"))
    lines = read(f"{stream.get_web_url()}?topic=examples").splitlines()
    print(" ".join(line.removeprefix("data: ") for line in lines if line.startswith("data: ")))
    print(read(f"{order.get_web_url()}", json.dumps({"item": "tea", "count": 3}).encode()))
    print("a page with events" if "EventSource" in read(f"{page.get_web_url()}") else "no page")


def read(url: str, body: bytes | None = None) -> str:
    """What is there."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        text: str = response.read().decode()
        return text
