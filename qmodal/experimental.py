"""Experimental decorators of Modal, such as `clustered`: recorded with the app, and refused when called."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from qmodal.cls.partial_function import ClassMark, PartialFunction
from qmodal.exception import InvalidError

__all__ = ["clustered", "sessioned", "stop_fetching_inputs"]


def stop_fetching_inputs() -> None:
    """Raises UnimplementedError: use `single_use_containers=True`, or end the process."""
    from qmodal.exception import UnimplementedError

    raise UnimplementedError(
        "qmodal cannot stop a container from inside: use `single_use_containers=True` to have one "
        "container for each input."
    )


def clustered(size: int, *, rdma: bool = False) -> ClassMark:
    """Start `size` containers together for each input; recorded, calling it is refused."""
    if type(size) is not int or size < 1:
        raise InvalidError("`size` of `@modal.clustered` must be an int above 0.")
    return _recording("clustered", {"size": size, "rdma": rdma})


def sessioned() -> ClassMark:
    """Keep a caller's inputs in one container; recorded, calling it is refused."""
    return _recording("sessioned", {})


def _recording(name: str, config: dict[str, Any]) -> ClassMark:
    def mark(target: Any) -> Any:
        partial = target if isinstance(target, PartialFunction) else PartialFunction(raw_f=target)
        return replace(partial, recorded={**partial.recorded, name: config})

    return mark


def interact() -> None:
    """Raises InvalidError: containers here have no terminal; run the code locally to look into it."""
    from qmodal.client.context import is_local
    from qmodal.runner.run import INTERACTIVE

    if is_local():
        raise InvalidError("Interactivity only works inside a Modal Function's container.")
    raise InvalidError(
        f"Cannot use modal.interact() without running Modal in interactive mode. {INTERACTIVE}"
    )
