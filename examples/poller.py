"""A poller that runs by itself: `qmodal deploy examples/poller.py`, and `qmodal schedule list`.

`qmodal run examples/poller.py` polls twice, to see what it does.
"""

import time

import qmodal

app = qmodal.App("poller")


def orders_since(moment: float) -> list[str]:
    """What is new; think of a mailbox, a feed or a table."""
    return [f"order {number}" for number in range(3)]


@app.function(schedule=qmodal.Period(minutes=1), retries=2, timeout=50)
def poll() -> int:
    """Hand each new order on, and say how many there were."""
    orders = orders_since(time.time() - 60)
    for order in orders:
        print(f"handing on {order}")
        deliver.spawn(order)
    return len(orders)


@app.function()
def deliver(order: str) -> str:
    """What is done with one order, in a pool of its own."""
    return f"{order} delivered"


@app.function(schedule=qmodal.Cron("0 6 * * mon-fri", timezone="Europe/Berlin"))
def report() -> str:
    """Every working day at six in the morning, in summer and in winter."""
    return f"a report of {time.strftime('%Y-%m-%d')}"


@app.local_entrypoint()
def main() -> None:
    print(f"{poll.remote()} orders, then {poll.remote()}")
    print(report.remote())
