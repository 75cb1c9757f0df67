"""The same verbs without blocking an event loop: each has an `.aio` twin.

`qmodal run examples/async_calls.py`
"""

import asyncio
import time
from collections.abc import AsyncIterator

import qmodal

app = qmodal.App("async-calls")


@app.function()
async def echo_later(word: str, seconds: float) -> str:
    """An asynchronous function is awaited in its container."""
    await asyncio.sleep(seconds)
    return word


@app.function(max_containers=2)
def length(word: str) -> int:
    return len(word)


@app.local_entrypoint()
async def main() -> None:
    begin = time.perf_counter()
    print(await echo_later.remote.aio("one at a time", 0.01))

    words = ["many", "calls", "at", "once"]
    answers = await asyncio.gather(*(echo_later.remote.aio(word, 0.2) for word in words))
    print(" ".join(answers))
    assert answers == words

    call = await echo_later.spawn.aio("and one to collect later", 0.1)
    lengths = {word: size async for word, size in numbered(words)}
    print(f"lengths: {lengths}")
    print(await call.get.aio())
    print(f"{time.perf_counter() - begin:.1f} s altogether")


async def numbered(words: list[str]) -> AsyncIterator[tuple[str, int]]:
    """The words with their lengths, as the lengths arrive."""
    position = 0
    async for size in length.map.aio(words):
        yield words[position], size
        position += 1
