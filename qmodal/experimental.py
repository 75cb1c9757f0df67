"""Modal's name for the module of what may change."""

from __future__ import annotations

from qmodal.gang import clustered, sessioned

__all__ = ["clustered", "sessioned", "stop_fetching_inputs"]


def stop_fetching_inputs() -> None:
    """Raises UnimplementedError: use `single_use_containers=True`, or end the process."""
    from qmodal.exception import UnimplementedError

    raise UnimplementedError(
        "qmodal cannot stop a container from inside: use `single_use_containers=True` to have one "
        "container for each input."
    )
