"""The older way to give a class parameters: an ordinary constructor.

`qmodal run examples/legacy_constructor.py`
"""

import os

import qmodal

app = qmodal.App("legacy-constructor")


@app.cls()
class Ruler:
    """Measures in its own unit; containers build it with the caller's arguments."""

    def __init__(self, unit: str, factor: float = 1.0) -> None:
        self.unit = unit
        self.factor = factor

    @qmodal.method()
    def measure(self, metres: float) -> tuple[str, int]:
        return f"{metres * self.factor:.2f} {self.unit}", os.getpid()


@app.local_entrypoint()
def main(metres: float = 100.0) -> None:
    rulers = [Ruler("m"), Ruler("ft", factor=3.28084), Ruler("yd", 1.09361)]
    pools = set()
    for ruler in rulers:
        length, container = ruler.measure.remote(metres)
        pools.add(container)
        print(f"{length} (container {container})")
    print(f"{len(pools)} sets of arguments, {len(pools)} containers")
    assert len(pools) == len(rulers)
