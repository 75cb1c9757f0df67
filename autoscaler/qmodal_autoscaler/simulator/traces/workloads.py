"""The traces that have names: eight of one pool by which limits are stated, and others that are harder."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping

from qmodal_autoscaler.simulator.traces.trace import (
    Arrival,
    Faults,
    Trace,
    around,
    diurnal_moments,
    in_order,
    poisson,
)

# With others `sparse` costs between 8.2 and 9.0, by how many of its gaps happen to be short; 8.65 on average.
SEED = 8
Maker = Callable[[random.Random], Trace]


def _inputs(
    chance: random.Random, moments: Iterable[float], mean: float, sigma: float = 0.3
) -> list[Arrival]:
    return [Arrival(at, around(chance, mean, sigma)) for at in moments]


def sparse(chance: random.Random) -> Trace:
    """An input every five minutes, for eight hours."""
    arrivals = _inputs(chance, poisson(chance, 1 / 300, 0, 8 * 3600), 2.0)
    return Trace(name="sparse", arrivals=in_order(arrivals), start_time=5)


def steady(chance: random.Random) -> Trace:
    """Four inputs of 2 s each second, for a quarter of an hour."""
    arrivals = _inputs(chance, poisson(chance, 4, 0, 900), 2.0)
    return Trace(name="steady", arrivals=in_order(arrivals), start_time=5)


def map_500(chance: random.Random) -> Trace:
    """A cold map of 500 inputs of 3 s."""
    arrivals = _inputs(chance, [0.0] * 500, 3.0, 0.0)
    return Trace(name="map-500", arrivals=in_order(arrivals), start_time=10)


def map_100(chance: random.Random) -> Trace:
    """A cold map of 100 inputs of a minute."""
    arrivals = _inputs(chance, [0.0] * 100, 60.0, 0.0)
    return Trace(name="map-100", arrivals=in_order(arrivals), start_time=20)


def on_off(chance: random.Random) -> Trace:
    """Ten inputs of 1 s each second during the first of every five minutes."""
    moments = [at for n in range(4) for at in poisson(chance, 10, 300 * n, 300 * n + 60)]
    return Trace(name="on-off", arrivals=in_order(_inputs(chance, moments, 1.0)), start_time=8)


def fast(chance: random.Random) -> Trace:
    """Forty inputs of 50 ms each second, for ten minutes."""
    arrivals = _inputs(chance, poisson(chance, 40, 0, 600), 0.05)
    return Trace(name="fast", arrivals=in_order(arrivals), start_time=6)


def after_burst(chance: random.Random) -> Trace:
    """A burst of ten inputs, and one every five seconds for an hour after it."""
    moments = [0.0] * 10 + [5.0 * n for n in range(1, 720)]
    return Trace(
        name="after-burst", arrivals=in_order(_inputs(chance, moments, 0.5, 0.1)), start_time=5
    )


def steps(chance: random.Random) -> Trace:
    """1, then 4, 16, 4 and 1 inputs of 1.5 s each second, five minutes each."""
    moments = [
        at
        for n, rate in enumerate((1, 4, 16, 4, 1))
        for at in poisson(chance, rate, 300 * n, 300 * n + 300)
    ]
    return Trace(name="steps", arrivals=in_order(_inputs(chance, moments, 1.5)), start_time=10)


def heavy_tail(chance: random.Random) -> Trace:
    """Two inputs each second, most of them short and some very long (log-normal, sigma 1.5)."""
    arrivals = _inputs(chance, poisson(chance, 2, 0, 900), 2.0, 1.5)
    return Trace(name="heavy-tail", arrivals=in_order(arrivals), start_time=5)


def diurnal(chance: random.Random) -> Trace:
    """A day in an hour: between 0.2 and 8 inputs of 1 s each second."""
    arrivals = _inputs(chance, diurnal_moments(chance, 0.2, 8, 3600, 3600), 1.0)
    return Trace(name="diurnal", arrivals=in_order(arrivals), start_time=5)


def azure(chance: random.Random) -> Trace:
    """Two hundred functions as clouds see them: few are called all the time, most hardly ever."""
    arrivals = []
    for n in range(200):
        rate = min(4.0, chance.lognormvariate(-7.0, 2.6))
        mean = min(30.0, chance.lognormvariate(-0.4, 1.2))
        moments = poisson(chance, rate, 0, 1200)
        arrivals += [Arrival(at, around(chance, mean, 0.8), f"app/f{n}") for at in moments]
    return Trace(name="azure", arrivals=in_order(arrivals), start_time=3)


def parameters(chance: random.Random) -> Trace:
    """Three thousand parameter sets of one class, each called once or a few times within ten minutes."""
    arrivals = []
    for n in range(3000):
        begin = chance.uniform(0, 600)
        for _ in range(1 + int(chance.expovariate(1.5))):
            arrivals.append(Arrival(begin, around(chance, 1.0), f"app/p{n}"))
            begin += chance.expovariate(0.1)
    return Trace(name="parameters", arrivals=in_order(arrivals), start_time=1, window=10)


def several_at_once(chance: random.Random) -> Trace:
    """Forty inputs of 2 s each second in containers that run eight at once."""
    arrivals = _inputs(chance, poisson(chance, 40, 0, 300), 2.0)
    return Trace(name="slots", arrivals=in_order(arrivals), start_time=5, slots=8)


def deaths(chance: random.Random) -> Trace:
    """`steady` for ten minutes, with containers that live for two minutes on average."""
    arrivals = _inputs(chance, poisson(chance, 4, 0, 600), 2.0)
    faults = Faults(death_rate=1 / 120)
    return Trace(name="deaths", arrivals=in_order(arrivals), start_time=5, faults=faults)


def stale(chance: random.Random) -> Trace:
    """`steady` for ten minutes; all that the leader reads is two seconds old, and thrice unreadable."""
    arrivals = _inputs(chance, poisson(chance, 4, 0, 600), 2.0)
    faults = Faults(lag=2.0, blackouts=((100, 120), (200, 205), (400, 430)))
    return Trace(name="stale", arrivals=in_order(arrivals), start_time=5, faults=faults)


def flap(chance: random.Random) -> Trace:
    """`steady` for ten minutes, with another leader every forty seconds."""
    arrivals = _inputs(chance, poisson(chance, 4, 0, 600), 2.0)
    faults = Faults(leader_losses=tuple(range(40, 600, 40)))
    return Trace(name="flap", arrivals=in_order(arrivals), start_time=5, faults=faults)


def scarce(chance: random.Random) -> Trace:
    """Ten pools of two apps, of which five come late, that want three times the room of twenty containers."""
    arrivals = []
    for n in range(10):
        moments = poisson(chance, 3.0, 0 if n % 2 else 30, 150)
        pool = f"app{n // 5}/f{n}"
        arrivals += [Arrival(at, around(chance, 2.0), pool) for at in moments]
    return Trace(name="scarce", arrivals=in_order(arrivals), start_time=2, room=20)


def jobs(chance: random.Random) -> Trace:
    """Sixty pools that each get twelve inputs of 1 s at once, where there is room for six containers."""
    arrivals = []
    for n in range(60):
        at = chance.uniform(0, 100)
        arrivals += [Arrival(at, around(chance, 1.0), f"app/f{n}") for _ in range(12)]
    return Trace(name="jobs", arrivals=in_order(arrivals), start_time=1, room=6)


# Those by which limits are stated.
LIMITED: Mapping[str, Maker] = {
    "sparse": sparse,
    "steady": steady,
    "map-500": map_500,
    "map-100": map_100,
    "on-off": on_off,
    "fast": fast,
    "after-burst": after_burst,
    "steps": steps,
}
WORKLOADS: Mapping[str, Maker] = {
    **LIMITED,
    "heavy-tail": heavy_tail,
    "diurnal": diurnal,
    "azure": azure,
    "parameters": parameters,
    "slots": several_at_once,
    "deaths": deaths,
    "stale": stale,
    "flap": flap,
    "scarce": scarce,
    "jobs": jobs,
}


def workload(name: str, seed: int = SEED) -> Trace:
    """The trace of that name; another seed gives other moments and times of the same kind."""
    return WORKLOADS[name](random.Random(f"{name} {seed}"))
