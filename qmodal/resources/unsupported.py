"""Objects of Modal that qmodal does not have: a program may declare them, and they are only recorded."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, NoReturn, Self

from qmodal.exception import UnimplementedError
from qmodal.spec.names import check_name
from qmodal.spec.resource import VolumeResource


class Declared:
    """An object that was declared and is only recorded; using it raises UnimplementedError."""

    __slots__ = ("_given", "_made_by", "_name")
    _instead = "it is not part of qmodal"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._record("", args, kwargs)

    def _record(self, made_by: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self._made_by = made_by
        self._given = (args, dict(kwargs))
        self._name = args[0] if args and isinstance(args[0], str) else None

    @classmethod
    def _declare(cls, made_by: str, *args: Any, **kwargs: Any) -> Self:
        made = cls.__new__(cls)
        made._record(made_by, args, kwargs)
        return made

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._name or ''!r})"

    def to_plain(self) -> dict[str, Any]:
        """What the app's version records of it."""
        return {"kind": type(self).__name__, "made_by": self._made_by, "name": self._name}

    @property
    def name(self) -> str | None:
        """The name it was declared with, if any."""
        return self._name

    def _refuse(self, what: str) -> NoReturn:
        raise UnimplementedError(
            f"qmodal has no {type(self).__name__}, so {what} cannot work: {self._instead}."
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        self._refuse(f"`.{name}`")

    def __enter__(self) -> Any:
        self._refuse("`with`")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return None

    async def __aenter__(self) -> Any:
        self._refuse("`async with`")

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return None

    def __getitem__(self, key: Any) -> Any:
        self._refuse("`[...]`")

    def __setitem__(self, key: Any, value: Any) -> None:
        self._refuse("`[...] =`")

    def __delitem__(self, key: Any) -> None:
        self._refuse("`del ...[...]`")

    def __contains__(self, key: Any) -> bool:
        self._refuse("`in`")


class _RefusedAttribute:
    """A class attribute that would create, list or delete such objects: asking for it raises."""

    def __get__(self, instance: object, owner: type[Declared]) -> NoReturn:
        raise UnimplementedError(f"qmodal keeps no {owner.__name__} objects: {owner._instead}.")


class _Named(Declared):
    """A declared object that is looked up by its name."""

    __slots__ = ()

    def __init__(self) -> None:
        raise RuntimeError(f"Class {type(self).__name__} has no constructor; use its `from_name`.")

    objects = _RefusedAttribute()
    delete = _RefusedAttribute()
    create_deployed = _RefusedAttribute()

    @classmethod
    def lookup(cls, *args: Any, **kwargs: Any) -> NoReturn:
        """Gone: use `from_name`."""
        raise AttributeError(f"{cls.__name__}.lookup does not exist any more: use from_name")


class Volume(_Named, VolumeResource):
    """Declares a volume; boxes that share files do so with a shared folder."""

    __slots__ = ()
    _instead = "read and write a folder that all boxes share, such as one on NFS"

    @classmethod
    def from_name(
        cls,
        name: str,
        *,
        environment_name: str | None = None,
        create_if_missing: bool = False,
        version: Any = None,
        create_options: Any = None,
        client: Any = None,
    ) -> Volume:
        """The volume of that name; raises InvalidError for a name that none can have."""
        check_name("Volume", name)
        return cls._declare("from_name", name)

    @classmethod
    def from_id(cls, volume_id: str, client: Any = None) -> Volume:
        """The volume of that id."""
        return cls._declare("from_id", volume_id)

    @classmethod
    def ephemeral(
        cls,
        client: Any = None,
        environment_name: str | None = None,
        version: Any = None,
        create_options: Any = None,
    ) -> Volume:
        """One that lasts as long as a `with` block."""
        return cls._declare("ephemeral")

    def read_only(self) -> Volume:
        """The same, mounted so that it cannot be written."""
        return self

    def with_mount_options(self, *, read_only: bool | None = None, sub_path: Any = None) -> Volume:
        """The same with other options of its mount."""
        return self


class _Stored(_Named):
    """A named object that Modal would store."""

    __slots__ = ()

    @classmethod
    def from_name(
        cls,
        name: str,
        *,
        environment_name: str | None = None,
        create_if_missing: bool = False,
        client: Any = None,
    ) -> Self:
        """The one of that name; raises InvalidError for a name that none can have."""
        check_name(cls.__name__, name)
        return cls._declare("from_name", name)

    @classmethod
    def ephemeral(cls, client: Any = None, environment_name: str | None = None) -> Self:
        """One that lasts as long as a `with` block."""
        return cls._declare("ephemeral")


class NetworkFileSystem(_Stored):
    """Declares a shared file system."""

    __slots__ = ()
    _instead = "mount the file system on the boxes"


class Mount(_Named):
    """Declares files to copy to the container."""

    __slots__ = ()
    _instead = "the program's own source is sent with the app; put other files on the boxes"

    @classmethod
    def from_local_dir(cls, local_path: Any, **kwargs: Any) -> Mount:
        """A folder of this machine."""
        return cls._declare("from_local_dir", str(local_path))

    @classmethod
    def from_local_file(cls, local_path: Any, remote_path: Any = None) -> Mount:
        """A file of this machine."""
        return cls._declare("from_local_file", str(local_path))

    @classmethod
    def from_local_python_packages(cls, *module_names: str, **kwargs: Any) -> Mount:
        """Packages of this machine."""
        return cls._declare("from_local_python_packages", *module_names)


class Proxy(_Stored):
    """Declares a proxy that outgoing traffic takes."""

    __slots__ = ()
    _instead = "traffic leaves from the boxes; set up their network"


class CloudBucketMount(Declared, VolumeResource):
    """Declares a bucket as a folder: `CloudBucketMount(bucket_name, ...)`."""

    __slots__ = ()
    _instead = "mount the bucket on the boxes, or read it with its own client"


class FilePatternMatcher(Declared):
    """Declares which files count: `FilePatternMatcher(*patterns)`."""

    __slots__ = ()
    _instead = "name the files yourself"

    def __invert__(self) -> FilePatternMatcher:
        return self


class Cluster(Declared):
    """Declares containers that start together."""

    __slots__ = ()
    _instead = "use `map` over the parts, or start the ranks of one box inside a function"


class Tunnel(Declared):
    """Declares a way in from the network."""

    __slots__ = ()
    _instead = "containers are processes of the box: open a port there"


class Sandbox(_Named):
    """Declares a box for foreign code, which qmodal has not: its containers are plain processes."""

    __slots__ = ()
    _instead = "call a function, or use a container runtime directly"

    @classmethod
    def create(cls, *args: Any, **kwargs: Any) -> NoReturn:
        """Raises UnimplementedError."""
        cls._declare("create")._refuse("`Sandbox.create`")

    from_name = create


def forward(port: int, *, unencrypted: bool = False, h2_enabled: bool = False) -> Tunnel:
    """Declares a tunnel to a port of the container; entering it raises UnimplementedError."""
    return Tunnel._declare("forward", port)
