"""Secret: environment variables that travel, signed but not encrypted, with the app's version."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from qmodal.client.context import is_local
from qmodal.exception import InvalidError, UnimplementedError
from qmodal.spec.names import check_name
from qmodal.spec.resource import SecretResource


class Secret(SecretResource):
    """Variables for a function's containers; later ones win over earlier ones and over `env`'s.

    >>> @app.function(secrets=[qmodal.Secret.from_dict({"TOKEN": "abc"})])
    ... def token() -> str:
    ...     return os.environ["TOKEN"]
    """

    __slots__ = ("_kind", "_name", "_read", "_required")
    _kind: str
    _read: Callable[[], dict[str, str]]
    _name: str | None
    _required: tuple[str, ...]

    def __init__(self) -> None:
        raise InvalidError("Make a Secret with `Secret.from_dict(...)` or another `from_...`.")

    @classmethod
    def _made(
        cls,
        kind: str,
        read: Callable[[], dict[str, str]],
        name: str | None = None,
        required: Sequence[str] = (),
    ) -> Secret:
        secret = object.__new__(cls)
        secret._kind, secret._read = kind, read
        secret._name, secret._required = name, tuple(required)
        return secret

    def __repr__(self) -> str:
        return f"Secret.{self._kind}({self._name or ''})"

    @property
    def name(self) -> str | None:
        """The name it is looked up by, if any."""
        return self._name

    @staticmethod
    def from_dict(env_dict: Mapping[str, str | None] = {}) -> Secret:
        """These variables; None leaves one out. Raises InvalidError unless all are strings."""
        kept = {key: value for key, value in env_dict.items() if value is not None}
        if not all(isinstance(each, str) for pair in kept.items() for each in pair):
            raise InvalidError("the env_dict of a Secret must map strings to strings")
        _check_names(kept)
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
        _check_names(kept)
        return Secret._made("from_local_environ", lambda: kept)

    @staticmethod
    def from_dotenv(
        path: str | Path | None = None, *, filename: str = ".env", client: Any = None
    ) -> Secret:
        """The variables of a file, looked for here (or in `path`) and in the folders above.

        It is read when the app is run or deployed; without one there are no variables.
        """
        return Secret._made("from_dotenv", lambda: _read_dotenv(path, filename))

    @staticmethod
    def from_name(
        name: str,
        *,
        environment_name: str | None = None,
        required_keys: Sequence[str] = [],
        client: Any = None,
    ) -> Secret:
        """Variables that the environment of the boxes' workers has to provide.

        A container without one of `required_keys` fails to start and says so. Raises InvalidError
        for a name that no secret can have.
        """
        check_name("Secret", name)
        return Secret._made("from_name", dict, name, required_keys)

    def variables(self) -> dict[str, str]:
        """The variables now; raises InvalidError for a file that cannot be read."""
        return self._read()

    def to_plain(self) -> dict[str, Any]:
        """What the app's version records of it: no values."""
        return {"kind": self._kind, "name": self._name, "required_keys": list(self._required)}

    @property
    def object_id(self) -> str:
        """Raises AttributeError: nothing is stored, so there is no id."""
        raise AttributeError(f"{self!r} has no object_id: qmodal stores no secrets")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise UnimplementedError(
            f"qmodal stores no secrets, so `Secret.{name}` cannot work: use Secret.from_dict, "
            "from_dotenv or from_local_environ, or set the variables for the workers."
        )


def _check_names(variables: Mapping[str, str]) -> None:
    for name, value in variables.items():
        if not name or "=" in name or "\0" in name + value:
            raise InvalidError(f"a Secret's {name!r} cannot be an environment variable")


def _read_dotenv(path: str | Path | None, filename: str) -> dict[str, str]:
    found = _find_dotenv(Path.cwd() if path is None else Path(path).resolve(), filename)
    if found is None:
        return {}
    try:
        text = found.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidError(f"{found} cannot be read: {error}") from error
    variables = dict(filter(None, map(_assignment, text.splitlines())))
    _check_names(variables)
    return variables


def _find_dotenv(start: Path, filename: str) -> Path | None:
    folder = start.parent if start.is_file() else start
    places = (each / filename for each in (folder, *folder.parents))
    return next((place for place in places if place.is_file()), None)


def _assignment(line: str) -> tuple[str, str] | None:
    """One line of a dotenv file: `export NAME='value' # comment`; None for an empty one."""
    line = line.strip().removeprefix("export ").lstrip()
    if not line or line.startswith("#"):
        return None
    name, _, value = line.partition("=")
    return name.strip(), _unquoted(value.strip())


def _unquoted(value: str) -> str:
    quote = value[:1]
    if quote not in ("'", '"') or not quote:
        return value.partition(" #")[0].rstrip()
    inner, _, _ = value[1:].partition(quote)
    return inner.replace("\\n", "\n") if quote == '"' else inner
