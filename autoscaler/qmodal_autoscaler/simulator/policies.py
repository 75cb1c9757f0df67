"""The policies that have names, and a run of one of them over a trace."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from qmodal_autoscaler.policy.state import PoolSettings
from qmodal_autoscaler.simulator.engine import Scaler, Simulation
from qmodal_autoscaler.simulator.others import (
    KedaPolicy,
    KnativePolicy,
    NaivePolicy,
    NaiveRecentPolicy,
    RayServePolicy,
)
from qmodal_autoscaler.simulator.record import Record
from qmodal_autoscaler.simulator.shipped import ShippedPolicy
from qmodal_autoscaler.simulator.traces.trace import Trace

SHIPPED, UNTAUGHT = "qmodal", "qmodal-untaught"


def settings_of(trace: Trace, *, alpha: float = 0.25) -> PoolSettings:
    """The settings of the trace's pools."""
    return PoolSettings(scaledown_window=trace.window, slots=trace.slots, alpha=alpha)


def _shipped(trace: Trace) -> Scaler:
    return ShippedPolicy(settings_of(trace))


POLICIES: Mapping[str, Callable[[Trace], Scaler]] = {
    SHIPPED: _shipped,
    UNTAUGHT: _shipped,
    "naive": lambda _: NaivePolicy(),
    "naive-recent": lambda _: NaiveRecentPolicy(),
    "keda": lambda _: KedaPolicy(),
    "knative": lambda _: KnativePolicy(),
    "ray-serve": lambda _: RayServePolicy(),
}


def simulate(trace: Trace, policy: str = SHIPPED) -> Record:
    """Run a trace under the policy of that name; `qmodal-untaught` knows no times of any pool at first."""
    return Simulation(trace, POLICIES[policy](trace), knows_times=policy != UNTAUGHT).run()
