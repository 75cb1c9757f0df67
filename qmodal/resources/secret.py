"""Secret: environment variables of containers whose values are sealed wherever they are kept."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from qmodal.client.client import current
from qmodal.client.context import is_local
from qmodal.client.verb import verb
from qmodal.exception import AlreadyExistsError, InvalidError, NotFoundError
from qmodal.resources.env_files import check_stored, check_variables, find_dotenv, read_dotenv
from qmodal.resources.stored import newest
from qmodal.spec.names import check_name
from qmodal.spec.resource import SecretResource
from qmodal.spec.variables import NamedSecret, check_keys
from qmodal.store.objects.secrets import StoredSecret
from qmodal.transport.operation import Op
from qmodal.types import SecretInfo


class SecretManager:
    """`Secret.objects`: makes, lists and deletes secrets that are stored by name."""

    __slots__ = ()

    @verb
    def create(
        self,
        name: str,
        env_dict: Mapping[str, str],
        *,
        allow_existing: bool = False,
        environment_name: str | None = None,
        client: Any = None,
    ) -> Op[None]:
        """Store the variables under that name; one that is there raises AlreadyExistsError, or stays as it is.

        >>> qmodal.Secret.objects.create("aws", {"AWS_KEY": key})
        """
        check_name("Secret", name)
        check_stored(env_dict)
        environment = _environment(environment_name)
        made = yield from current().secrets.create(environment, name, env_dict)
        if not made and not allow_existing:
            raise AlreadyExistsError(
                f"There is a secret {name!r} in environment {environment!r} already. Replace it with `qmodal secret "
                f"create {name} ... --force`, or change it with Secret.from_name({name!r}).update(...)."
            )

    @verb
    def list(
        self,
        *,
        max_objects: int | None = None,
        created_before: datetime | str | None = None,
        environment_name: str = "",
        client: Any = None,
    ) -> Op[list[Secret]]:
        """The stored secrets of an environment, the newest first."""
        found = yield from current().secrets.all(_environment(environment_name))
        return [Secret._stored(each) for each in newest(found, max_objects, created_before)]

    @verb
    def delete(
        self,
        name: str,
        *,
        allow_missing: bool = False,
        environment_name: str | None = None,
        client: Any = None,
    ) -> Op[None]:
        """Delete a stored secret: containers that need it do not start any more. Raises NotFoundError."""
        check_name("Secret", name)
        environment = _environment(environment_name)
        deleted = yield from current().secrets.delete(environment, name)
        if not deleted and not allow_missing:
            raise NotFoundError(f"There is no secret {name!r} in environment {environment!r}.")


class Secret(SecretResource):
    """Variables for a function's containers; later ones win over earlier ones, and `env` over all.

    >>> @app.function(secrets=[qmodal.Secret.from_name("aws", required_keys=["AWS_KEY"])])
    ... def key() -> str:
    ...     return os.environ["AWS_KEY"]
    """

    __slots__ = ("_environment", "_found", "_kind", "_name", "_read", "_required")
    objects: ClassVar[SecretManager] = SecretManager()
    _kind: str
    _read: Callable[[], dict[str, str]] | None  # None: it is stored by name
    _name: str | None
    _required: tuple[str, ...]
    _environment: str
    _found: StoredSecret | None

    def __init__(self) -> None:
        raise InvalidError("Make a Secret with `Secret.from_dict(...)` or another `from_...`.")

    @classmethod
    def _made(
        cls,
        kind: str,
        read: Callable[[], dict[str, str]] | None,
        name: str | None = None,
        required: Sequence[str] = (),
        environment: str = "",
    ) -> Secret:
        secret = object.__new__(cls)
        secret._kind, secret._read = kind, read
        secret._name, secret._required, secret._environment = name, tuple(required), environment
        secret._found = None
        return secret

    @classmethod
    def _stored(cls, found: StoredSecret) -> Secret:
        secret = cls._made("from_name", None, found.name, environment=found.environment)
        secret._found = found
        return secret

    def __repr__(self) -> str:
        return f"Secret.{self._kind}({self._name or ''})"

    def __reduce__(self) -> Any:
        # What is pickled may be published: a serialized function that names its secret takes no value along.
        read = None if self._read is None else dict
        return Secret._made, (self._kind, read, self._name, self._required, self._environment)

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    @property
    def name(self) -> str | None:
        """The name it is looked up by, if any."""
        return self._name

    @staticmethod
    def from_dict(env_dict: Mapping[str, str | None] = {}) -> Secret:
        """These variables; None leaves one out. Raises InvalidError unless all are strings."""
        kept = {key: value for key, value in env_dict.items() if value is not None}
        check_variables(kept)
        return Secret._made("from_dict", lambda: kept)

    @staticmethod
    def from_local_environ(env_keys: Sequence[str]) -> Secret:
        """These variables of this process. Raises InvalidError if one is not set here.

        In a container it stands for nothing: the values came along.
        """
        if not is_local():
            return Secret._made("from_local_environ", dict)
        missing = [key for key in env_keys if key not in os.environ]
        if missing:
            raise InvalidError(f"Could not find local environment variable(s): {missing}")
        kept = {key: os.environ[key] for key in env_keys}
        check_variables(kept)
        return Secret._made("from_local_environ", lambda: kept)

    @staticmethod
    def from_dotenv(
        path: str | Path | None = None, *, filename: str = ".env", client: Any = None
    ) -> Secret:
        """The variables of a file, looked for here (or in `path`) and in the folders above.

        It is read when the app is run or deployed; without one there are no variables.
        """

        def read() -> dict[str, str]:
            start = Path.cwd() if path is None else Path(path).resolve()
            found = find_dotenv(start, filename)
            return {} if found is None else read_dotenv(found)

        return Secret._made("from_dotenv", read)

    @staticmethod
    def from_name(
        name: str,
        *,
        environment_name: str | None = None,
        required_keys: Sequence[str] = [],
        client: Any = None,
    ) -> Secret:
        """Variables that `qmodal secret create` has stored under that name, in the app's environment if none is named.

        An app is not published, and a container does not start, without the secret or one of its `required_keys`. A
        container has the values of when it was started. Raises InvalidError for a name that no secret can have.
        """
        check_name("Secret", name)
        if environment_name:
            check_name("Environment", environment_name)
        return Secret._made("from_name", None, name, required_keys, environment_name or "")

    def variables(self) -> dict[str, str] | None:
        """The variables now, None for one that is stored; raises InvalidError for a file that cannot be read."""
        return None if self._read is None else self._read()

    def to_plain(self) -> dict[str, Any]:
        """What the app's version records of it: no values."""
        asked = {"environment": self._environment, "required_keys": list(self._required)}
        return {"kind": self._kind, "name": self._name, **(asked if self._read is None else {})}

    @verb
    def hydrate(self, client: Any = None) -> Op[Secret]:
        """Look up a stored one now rather than on first use; returns itself. Raises NotFoundError."""
        if self._read is None and self._found is None:
            yield from self._look_up()
        return self

    @verb
    def info(self, *, refresh: bool = False) -> Op[SecretInfo]:
        """When a stored one was made and last used; `refresh` looks it up again. Raises NotFoundError."""
        found = self._found
        if found is None or refresh:
            found = yield from self._look_up()
        (used,) = yield from current().secrets.last_used([found])
        return SecretInfo(
            name=found.name,
            environment_name=found.environment,
            created_at=_moment(found.created),
            last_used=None if used is None else _moment(used),
        )

    @verb
    def update(self, env_dict: Mapping[str, str]) -> Op[None]:
        """Set these variables of a stored one, and leave its others; containers that start from now on have them.

        Raises NotFoundError if there is none of that name.

        >>> qmodal.Secret.from_name("aws").update({"AWS_KEY": new_key})
        """
        asked = self._asked()
        check_stored(env_dict)
        is_there = yield from current().secrets.change(asked.environment, asked.name, env_dict)
        check_keys(asked._replace(required_keys=()), () if is_there else None)

    @property
    def object_id(self) -> str:
        """`st-...` of a stored one; AttributeError before hydration, and for others."""
        if self._found is None:
            raise AttributeError(f"{self!r} is not hydrated, so it has no object_id")
        return self._found.secret_id

    def _look_up(self) -> Op[StoredSecret]:
        asked = self._asked()
        found = yield from current().secrets.find(asked.environment, asked.name)
        check_keys(asked, None if found is None else found.keys)
        assert found is not None
        self._found = found
        return found

    def _asked(self) -> NamedSecret:
        if self._name is None:
            raise InvalidError(f"{self!r} is not stored by name: use Secret.from_name.")
        return NamedSecret(_environment(self._environment), self._name, self._required)


def _environment(name: str | None) -> str:
    if name:
        check_name("Environment", name)
    return name or current().settings.environment


def _moment(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC)
