"""Variables for secrets, before they are one: read from dotenv files by python-dotenv, and checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from io import StringIO
from pathlib import Path

from qmodal.exception import InvalidError

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LONGEST_KEY = 16_384
_LONGEST_VALUE = 32_768


def is_key(text: str) -> bool:
    """Whether it can be the name of a stored variable."""
    return _KEY.fullmatch(text) is not None and len(text) <= _LONGEST_KEY


def check_variables(variables: Mapping[str, str]) -> None:
    """Raise InvalidError, which shows no value, unless all can be variables of a process."""
    if not all(isinstance(each, str) for pair in variables.items() for each in pair):
        raise InvalidError("the env_dict of a Secret must map strings to strings")
    for name, value in variables.items():
        if not name or "=" in name or "\0" in name + value:
            raise InvalidError(f"a Secret's {name!r} cannot be an environment variable")


def check_stored(variables: Mapping[str, str]) -> None:
    """Raise InvalidError, which shows no value, unless all can be stored by name."""
    check_variables(variables)
    for name, value in variables.items():
        if not is_key(name):
            raise InvalidError(
                f"{name[:80]!r} cannot be a variable of a stored Secret: letters, digits and underscores only, and no "
                "digit first."
            )
        if len(value) > _LONGEST_VALUE:
            raise InvalidError(
                f"the value of {name} has {len(value)} characters; a stored Secret takes {_LONGEST_VALUE}."
            )


def read_dotenv(file: Path) -> dict[str, str]:
    """The variables of a dotenv file; a name without a value is empty. Raises InvalidError."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        # The error of decoding has the file's bytes with it, which a debugger or a reporter would show.
        raise InvalidError(f"{file} cannot be read: {error}") from None
    return parse_dotenv(text)


def parse_dotenv(text: str) -> dict[str, str]:
    """The variables in the text of a dotenv file; raises InvalidError."""
    from dotenv import dotenv_values

    found = dotenv_values(stream=StringIO(text))
    variables = {name: value or "" for name, value in found.items()}
    check_variables(variables)
    return variables


def find_dotenv(start: Path, filename: str) -> Path | None:
    """The file of that name in the folder (or beside the file) `start`, or in the nearest folder above that has one."""
    folder = start.parent if start.is_file() else start
    places = (each / filename for each in (folder, *folder.parents))
    return next((place for place in places if place.is_file()), None)
