"""The records that verbs return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qmodal import legacy


@dataclass(frozen=True, slots=True)
class FunctionCurrentStats:
    """One pool at this moment.

    `backlog` inputs wait, `num_running_inputs` run, `num_total_runners` containers exist (starting
    ones included) and can take `input_headroom` more inputs at once.
    """

    backlog: int
    num_total_runners: int
    num_running_inputs: int
    input_headroom: int


@dataclass(frozen=True, slots=True)
class FunctionAutoscalerSettings:
    """The settings in force for a pool; `max_containers` None means no limit, windows in seconds."""

    min_containers: int
    max_containers: int | None
    buffer_containers: int
    scaledown_window: int


if TYPE_CHECKING:
    # The name that versions of Modal before 1.6 gave it.
    FunctionStats = FunctionCurrentStats


def __getattr__(name: str) -> Any:
    if name == "FunctionStats":
        legacy.warn("FunctionStats", "use FunctionCurrentStats")
        return FunctionCurrentStats
    raise legacy.refusal(__name__, name, {})
