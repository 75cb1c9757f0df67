"""Dictionaries and queues: one function feeds a queue that others drain, a lock, and scattered parts of a sum.

`qmodal run examples/objects.py`
"""

import queue
import time

import qmodal

app = qmodal.App("objects")


@app.function()
def feed(jobs: qmodal.Queue, region: str, count: int) -> None:
    """Put jobs for a region into its partition."""
    jobs.put_many([f"{region}-{n}" for n in range(count)], partition=region)


@app.function()
def drain(jobs: qmodal.Queue, region: str) -> list[str]:
    """Take what comes for a region, until nothing has come for two seconds."""
    done: list[str] = []
    while True:
        try:
            done.append(jobs.get(timeout=2, partition=region))
        except queue.Empty:
            return done


@app.function(max_containers=4)
def count_alone(shared: qmodal.Dict, _: int) -> None:
    """Add one to a counter, under a lock: without it some additions would be lost."""
    while not shared.put("lock", True, skip_if_exists=True):
        time.sleep(0.01)
    try:
        shared["counter"] = shared.get("counter", 0) + 1
    finally:
        shared.pop("lock")


@app.function()
def scatter(parts: qmodal.Dict, start: int) -> None:
    """Leave one part of the sum for whoever gathers them."""
    parts[start] = sum(range(start, start + 100))


@app.local_entrypoint()
def main() -> None:
    with qmodal.Queue.ephemeral() as jobs, qmodal.Dict.ephemeral() as shared:
        drains = {region: drain.spawn(jobs, region) for region in ("north", "south")}
        for region in drains:
            feed.remote(jobs, region, 3)
        for region, call in drains.items():
            print(region, "has done", call.get())

        list(count_alone.starmap((shared, n) for n in range(20)))
        print("the counter is", shared["counter"])

    with qmodal.Dict.ephemeral() as parts:
        list(scatter.starmap((parts, start) for start in range(0, 1000, 100)))
        print("the parts add up to", sum(parts.values()))
