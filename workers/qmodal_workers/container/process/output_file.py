"""The file below a container's `sys.stdout` or `sys.stderr`, whose writes can be led elsewhere."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer


class OutputFile(io.FileIO):
    """A descriptor that Python code prints to; it stays open. `instead` is called in place of a write, if it is set."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd, "w", closefd=False)
        self.instead: Callable[[Buffer], int | None] | None = None

    def write(self, data: Buffer, /) -> int | None:  # type: ignore[override]
        """Write as much as goes; how many bytes that is."""
        instead = self.instead
        return super().write(data) if instead is None else instead(data)

    def write_as_it_is(self, data: Buffer) -> int | None:
        """Write as any file does."""
        return super().write(data)
