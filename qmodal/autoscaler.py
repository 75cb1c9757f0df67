"""`f.autoscaler`: read and change the limits of a function's pool while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from qmodal.client.verb import Verb
from qmodal.pool_verbs import current_settings, reset_autoscaler
from qmodal.target import Target
from qmodal.transport.operation import Op
from qmodal.types import FunctionAutoscalerSettings


class _Unset:
    def __repr__(self) -> str:
        return "<unset>"


UNSET: Final[Any] = _Unset()


@dataclass(frozen=True, slots=True)
class Autoscaler:
    """The autoscaler settings of one pool."""

    _find: Callable[[], Op[Target]]

    @property
    def settings(self) -> Verb[[], FunctionAutoscalerSettings]:
        """The settings in force."""
        return Verb(self._settings)

    @property
    def update(self) -> Update:
        """Change some of them until the next deploy; returns the settings in force.

        What is left out stays; None resets: no minimum, no buffer, no limit. Raises InvalidError.
        """
        return Update(self._update)

    def _settings(self) -> Op[FunctionAutoscalerSettings]:
        target = yield from self._find()
        return (yield from current_settings(target))

    def _update(self, **changes: int | None) -> Op[FunctionAutoscalerSettings]:
        given = {name: value for name, value in changes.items() if value is not UNSET}
        target = yield from self._find()
        return (yield from reset_autoscaler(target, given))


class Update(Verb[Any, FunctionAutoscalerSettings]):
    """`autoscaler.update(...)`: keywords only, each left out, None or a number."""

    __slots__ = ()

    def __call__(
        self,
        *,
        min_containers: int | None = UNSET,
        max_containers: int | None = UNSET,
        buffer_containers: int | None = UNSET,
        scaledown_window: int = UNSET,
    ) -> FunctionAutoscalerSettings:
        """Do it and wait."""
        return super().__call__(
            min_containers=min_containers,
            max_containers=max_containers,
            buffer_containers=buffer_containers,
            scaledown_window=scaledown_window,
        )

    async def aio(
        self,
        *,
        min_containers: int | None = UNSET,
        max_containers: int | None = UNSET,
        buffer_containers: int | None = UNSET,
        scaledown_window: int = UNSET,
    ) -> FunctionAutoscalerSettings:
        """Do it without blocking the event loop."""
        return await super().aio(
            min_containers=min_containers,
            max_containers=max_containers,
            buffer_containers=buffer_containers,
            scaledown_window=scaledown_window,
        )
