"""What a worker offers of its machine to containers, as its options say."""

from __future__ import annotations

from dataclasses import dataclass

from qmodal.exception import ConfigurationError
from qmodal.spec.needs.sizes import size
from qmodal_workers.agent.box.machine import Machine

# Of a box of which nobody has said how many containers it runs: a bound, for what waits on others.
MOST_EACH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """CPUs, memory in bytes and containers that a worker offers; `is_measured`: nobody has said how many containers."""

    cpus: float
    memory: int
    max_containers: int
    is_measured: bool
    processors: int  # of the machine: how many processes are begun at once


def offered(
    have: Machine,
    *,
    cpus: float | None = None,
    memory: int | None = None,
    max_containers: int | None = None,
) -> Offered:
    """What is offered, None: all that there is; raises ConfigurationError for memory that is not there.

    More CPUs than there are make programs slower; more memory than there is would have the kernel end them.
    """
    if memory is not None and memory > have.memory:
        raise ConfigurationError(
            f"--memory offers {size(memory)}, and this process may use {size(have.memory)}: offer less, or leave "
            "the option out to offer all of it"
        )
    given = have.cpus if cpus is None else cpus
    return Offered(
        cpus=given,
        memory=have.memory if memory is None else memory,
        max_containers=max_containers or max(1, round(MOST_EACH * given)),
        is_measured=max_containers is None,
        processors=have.processors,
    )
