"""Autoscaler: reads and changes the limits of a function's pool while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from qmodal.client.client import Client, current
from qmodal.client.verb import verb
from qmodal.exception import InvalidError
from qmodal.functions.submission import open_pool
from qmodal.functions.target import FindTarget, Target
from qmodal.spec.options import AutoscalerOverride, FunctionOptions
from qmodal.transport.operation import Op
from qmodal.types import FunctionAutoscalerSettings, FunctionCurrentStats


class _Unset:
    def __repr__(self) -> str:
        return "<unset>"


UNSET: Final[Any] = _Unset()


@dataclass(frozen=True, slots=True)
class Autoscaler:
    """The autoscaler settings of one pool."""

    _find: FindTarget

    @verb
    def settings(self) -> Op[FunctionAutoscalerSettings]:
        """The settings in force."""
        target = yield from self._find()
        return (yield from current_settings(target))

    @verb
    def update(
        self,
        *,
        min_containers: int | None = UNSET,
        max_containers: int | None = UNSET,
        buffer_containers: int | None = UNSET,
        scaledown_window: int = UNSET,
        scaleup_softness: float | None = UNSET,
        scaleup_window: int | None = UNSET,
    ) -> Op[FunctionAutoscalerSettings]:
        """Change some of them until the next deploy; returns the settings in force.

        What is left out stays; None resets: no minimum, no buffer, no limit, the usual softness. Raises InvalidError.
        """
        changes = {
            "min_containers": min_containers,
            "max_containers": max_containers,
            "buffer_containers": buffer_containers,
            "scaledown_window": scaledown_window,
            "scaleup_softness": scaleup_softness,
            "scaleup_window": scaleup_window,
        }
        given = {name: value for name, value in changes.items() if value is not UNSET}
        target = yield from self._find()
        return (yield from reset_autoscaler(target, given))


def current_stats(target: Target) -> Op[FunctionCurrentStats]:
    """The pool at this moment, as the autoscaler sees it."""
    client = current()
    (observation,) = yield from client.observing.observe([target.pool])
    states = yield from _container_states(client, target.pool)
    runners, capacity = len(states), target.options.capacity
    if observation is None:
        return FunctionCurrentStats(0, runners, 0, capacity * states.count("ready"))
    running = observation.running(capacity)
    return FunctionCurrentStats(
        backlog=max(0, observation.inflight - running - observation.delayed),
        num_total_runners=max(runners, len(observation.consumers)),
        num_running_inputs=running,
        input_headroom=max(0, capacity * len(observation.consumers) - running),
    )


def _container_states(client: Client, pool: str) -> Op[list[str]]:
    containers = yield from client.fleet.living_containers()
    return [
        container.state
        for listed in containers.values()
        for container in listed
        if container.pool == pool
    ]


def update_autoscaler(find: FindTarget, **changes: float | None) -> Op[FunctionAutoscalerSettings]:
    """Override the pool's settings until the next deploy; None leaves a setting as it is."""
    given = {name: value for name, value in changes.items() if value is not None}
    target = yield from find()
    return (yield from _override(target, given))


def reset_autoscaler(target: Target, changes: dict[str, Any]) -> Op[FunctionAutoscalerSettings]:
    """Override the pool's settings until the next deploy; None means no minimum, no buffer, no limit."""
    if changes.get("max_containers") == 0:
        raise InvalidError("`max_containers` must be at least 1, not 0; None takes the limit away")
    given = {name: 0 if value is None else value for name, value in changes.items()}
    if changes.get("scaleup_softness", 0) is None:
        given["scaleup_softness"] = FunctionOptions().scaleup_softness
    if given.get("scaledown_window") == 0:
        given["scaledown_window"] = FunctionOptions().scaledown_window
    return (yield from _override(target, given))


def current_settings(target: Target) -> Op[FunctionAutoscalerSettings]:
    """The settings in force."""
    overrides = yield from current().apps.overrides(target.spec.app_id)
    override = AutoscalerOverride.from_plain(overrides.get(target.pool, {}))
    return effective(override.apply(target.options))


def _override(target: Target, given: dict[str, Any]) -> Op[FunctionAutoscalerSettings]:
    client = current()
    AutoscalerOverride.from_plain(given)  # raises for a bad value
    options = target.options
    yield from open_pool(client, target.spec)
    settings = yield from client.apps.override(
        target.spec.app_id,
        target.pool,
        given,
        least=options.min_containers,
        most=options.max_containers,
    )
    changed = AutoscalerOverride.from_plain(settings).apply(options)  # raises if the limits cross
    if changed.min_containers:
        yield from client.pools.join(target.pool)
    return effective(changed)


def effective(options: FunctionOptions) -> FunctionAutoscalerSettings:
    """The autoscaler settings among the options."""
    return FunctionAutoscalerSettings(
        min_containers=options.min_containers,
        max_containers=options.max_containers,
        buffer_containers=options.buffer_containers,
        scaledown_window=options.scaledown_window,
        scaleup_softness=options.scaleup_softness,
        scaleup_window=options.scaleup_window,
    )
