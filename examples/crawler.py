"""An asynchronous crawler: fifty pages at a time in one container.

`qmodal run examples/crawler.py`
"""

import asyncio
import time

import qmodal

app = qmodal.App("crawler")
SITE = {f"/page/{n}": [f"/page/{2 * n}", f"/page/{2 * n + 1}"] for n in range(1, 64)}


@app.function(max_containers=1)
@qmodal.concurrent(max_inputs=50)
async def links(page: str) -> list[str]:
    """The links of a page, which takes its time to arrive."""
    await asyncio.sleep(0.1)
    return SITE.get(page, [])


@app.local_entrypoint()
async def main() -> None:
    begin = time.perf_counter()
    seen = {"/page/1"}
    found = ["/page/1"]
    while found:
        answers = await asyncio.gather(*(links.remote.aio(page) for page in found))
        found = sorted({link for answer in answers for link in answer} - seen)
        seen.update(found)
    took = time.perf_counter() - begin
    print(f"{len(seen)} pages of 0.1 s each in {took:.1f} s, by one container")
