"""One function, called in four ways: `qmodal run examples/quickstart.py --count 100`."""

import os

import qmodal

app = qmodal.App("quickstart")


@app.function()
def square(x: int) -> tuple[int, int]:
    """The square, and which process computed it."""
    return x * x, os.getpid()


@app.local_entrypoint()
def main(count: int = 20) -> None:
    here, _ = square.local(7)
    there, container = square.remote(7)
    print(f"7 * 7 = {here} in this process ({os.getpid()}), {there} in container {container}")

    call = square.spawn(12)
    print(f"12 * 12 is being computed as {call.object_id}")
    print(f"12 * 12 = {call.get()[0]}")

    answers = list(square.map(range(count)))
    containers = len({container for _, container in answers})
    total = sum(value for value, _ in answers)
    print(f"the first {count} squares add up to {total}; {containers} container(s) computed them")
    assert total == sum(x * x for x in range(count))
