"""The map family of a function's handle."""

from __future__ import annotations

from abc import abstractmethod
from typing import Generic, TypeVar

from qmodal.functions.map.spawn_map import SpawnMap
from qmodal.functions.map.verbs import ForEach, Map, StarMap
from qmodal.functions.target import Target
from qmodal.transport.operation import Op

R = TypeVar("R")


class MapVerbs(Generic[R]):
    """What a Function does with many inputs."""

    __slots__ = ()

    @abstractmethod
    def _plain_target(self, verb: str) -> Op[Target]:
        """Whom the inputs are for; raises InvalidError for what `verb` cannot call."""

    def _fanout_target(self) -> Op[Target]:
        return self._plain_target("map")

    @property
    def map(self) -> Map[R]:
        """Run it for each element of one or more iterables, in parallel; results in order.

        >>> list(square.map([1, 2, 3]))
        [1, 4, 9]
        """
        return Map(self._fanout_target)

    @property
    def starmap(self) -> StarMap[R]:
        """As `map`, with each element unpacked as positional arguments."""
        return StarMap(self._fanout_target)

    @property
    def for_each(self) -> ForEach:
        """As `map`, waiting for all and dropping the results."""
        return ForEach(self._fanout_target)

    @property
    def spawn_map(self) -> SpawnMap[R]:
        """Submit an input for each element; one FunctionCall with all of them."""
        return SpawnMap(self._fanout_target)
