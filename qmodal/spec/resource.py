"""Base classes of the objects that options name, for checks in rooms below these objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ImageResource:
    """What `image=` takes."""

    __slots__ = ()

    def check_imports(self) -> None:
        """Raise ImportError if something is missing that the functions with this image need."""
        raise NotImplementedError


class SecretResource:
    """What `secrets=` lists: an object that stands for environment variables."""

    __slots__ = ()

    def variables(self) -> dict[str, str] | None:
        """The variables now, None for one that is stored by name; raises InvalidError where they cannot be had."""
        raise NotImplementedError

    def to_plain(self) -> Mapping[str, Any]:
        """What it is, without a value."""
        raise NotImplementedError


class VolumeResource:
    """What `volumes=` has at a path."""

    __slots__ = ()
