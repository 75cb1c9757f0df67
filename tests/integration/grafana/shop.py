"""A shop whose functions are busy, slow, stuck and failing, and, run as a program, the load on them.

`python shop.py BASE_URL PACE` calls the deployed app until it is killed. What is more than usual begins at its second times PACE,
so 0 has everything at once.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable

import qmodal

app = qmodal.App("shop")
# Nothing goes through a proxy of the machine.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
TICK = 0.25
# What is called, every so many ticks, from which second on, and how often each time.
PLAN = [
    ("resize", 1, 0, 2),
    ("invoice", 1, 0, 2),
    ("rates", 4, 0, 1),
    ("archive", 2, 0, 1),
    ("fr", 1, 0, 1),
    ("de", 2, 0, 1),
    ("assistant", 8, 0, 1),
    ("render", 4, 0, 1),
    ("embed", 2, 0, 1),
    ("train", 4000, 15, 2),
    ("report", 400, 25, 60),
    ("resize", 400, 60, 150),
    ("scan", 6, 80, 1),
    ("predict", 16, 95, 1),
]
NAMES = [
    "resize",
    "invoice",
    "rates",
    "report",
    "scan",
    "assistant",
    "archive",
    "render",
    "embed",
    "train",
]


@app.function(scaledown_window=5)
def resize(image: int) -> int:
    time.sleep(0.1 + image % 5 / 10)
    return image


@app.function(schedule=qmodal.Period(seconds=5))
def stocktake() -> None:
    time.sleep(0.05)


@app.function(retries=1)
def invoice(number: int) -> int:
    time.sleep(0.02)
    if number % 9 == 4:
        raise ValueError(f"invoice {number} has no address")
    return number


@app.function(timeout=1)
def rates(number: int) -> int:
    time.sleep(3 if number % 4 == 3 else 0.2)
    return number


@app.function(max_containers=2, retries=1)
def report(number: int) -> int:
    time.sleep(0.6 + number % 4 / 2)
    if number % 8 == 5:
        raise TimeoutError("the warehouse does not answer")
    return number


@app.function()
def scan(number: int) -> int:
    """Every third one kills its container, whichever it is."""
    if number % 3 == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@app.function(min_containers=2)
def assistant(number: int) -> int:
    time.sleep(0.3)
    return number


@app.function()
def archive(number: int) -> int:
    time.sleep(0.1)
    return number


@app.function(gpu="A100")
def render(number: int) -> int:
    time.sleep(0.4)
    return number


@app.function(gpu="L4:0.5", max_containers=2)
def embed(number: int) -> int:
    time.sleep(0.6)
    return number


@app.function(gpu="H100:8", cpu=2, memory=4096)
def train(number: int) -> int:
    """No box can run it."""
    return number


@app.cls()
class Translator:
    language: str = qmodal.parameter()

    @qmodal.method()
    def translate(self, number: int) -> int:
        time.sleep(0.15 if self.language == "fr" else 0.4)
        return number


@app.cls()
class Model:
    @qmodal.enter()
    def load(self) -> None:
        raise FileNotFoundError("weights.bin")

    @qmodal.method()
    def predict(self, number: int) -> int:
        return number


@app.function()
@qmodal.fastapi_endpoint()
def page(number: int) -> int:
    time.sleep(0.05)
    return 100 // (number % 10)


def ask(base: str, numbers: itertools.count[int]) -> None:
    """Request pages for ever: most are there, one in ten fails, and some are asked for wrongly."""
    while True:
        number = next(numbers)
        query = "number=none" if number % 7 == 0 else f"number={number}"
        try:
            with _opener.open(f"{base}/shop/page?{query}", timeout=30) as response:
                response.read()
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
        time.sleep(0.1)


def load(pace: float) -> None:
    """Call functions for ever."""
    functions = {name: qmodal.Function.from_name("shop", name) for name in NAMES}
    translator = qmodal.Cls.from_name("shop", "Translator")
    calls: dict[str, Callable[[int], object]] = {n: f.spawn for n, f in functions.items()}
    calls |= {language: translator(language=language).translate.spawn for language in ("fr", "de")}
    calls["predict"] = qmodal.Cls.from_name("shop", "Model")().predict.spawn
    began = time.monotonic()
    for tick in itertools.count():
        for function, every, start, times in PLAN:
            since = tick - int(start * pace / TICK)
            if since >= 0 and since % every == 0:
                for number in range(since // every * times, (since // every + 1) * times):
                    calls[function](number)
        time.sleep(max(0.0, began + (tick + 1) * TICK - time.monotonic()))


if __name__ == "__main__":
    url, pace_text = sys.argv[1:]
    pages: itertools.count[int] = itertools.count()
    for _ in range(2):
        threading.Thread(target=ask, args=(url, pages), daemon=True).start()
    load(float(pace_text))
