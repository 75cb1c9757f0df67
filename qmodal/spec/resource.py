"""Base classes of the objects that options name, for checks in rooms below these objects."""

from __future__ import annotations


class ImageResource:
    """What `image=` takes."""

    __slots__ = ()


class SecretResource:
    """What `secrets=` lists: an object that stands for environment variables."""

    __slots__ = ()

    def variables(self) -> dict[str, str]:
        """The variables now; raises InvalidError where they cannot be had."""
        raise NotImplementedError


class VolumeResource:
    """What `volumes=` has at a path."""

    __slots__ = ()
