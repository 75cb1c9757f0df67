"""Modal's name for the module of settings, which are environment variables here."""

from __future__ import annotations

import os
from typing import Any, NoReturn

from qmodal.exception import InvalidError, UnimplementedError

_VARIABLES = {
    "environment": ("QMODAL_ENVIRONMENT", "main"),
    "payload_format": ("QMODAL_PAYLOADS", "pickle"),
    "server_url": ("QMODAL_REDIS_URL", None),
    "traceback": ("QMODAL_TRACEBACK", False),
}


class Config:
    """The settings of this process by Modal's names; one that qmodal has not raises InvalidError.

    >>> qmodal.config.config.get("environment")
    'main'
    """

    def get(self, key: str, *, profile: str | None = None, use_env: bool = True) -> Any:
        """The value: that of the environment variable, else the default."""
        if key not in _VARIABLES:
            raise InvalidError(f"qmodal has no setting {key!r}; it has {', '.join(_VARIABLES)}.")
        variable, default = _VARIABLES[key]
        return os.environ.get(variable, default) if use_env else default

    def override_locally(self, key: str, value: str) -> None:
        """Set it for this process and those that it starts."""
        self.get(key)
        os.environ[_VARIABLES[key][0]] = value

    def __getitem__(self, key: str) -> Any:
        return self.get(key)

    def to_dict(self, *, include_internal: bool = False) -> dict[str, Any]:
        """All of them."""
        return {key: self.get(key) for key in _VARIABLES}


config = Config()


def config_profiles() -> list[str]:
    """The names of profiles: none, as settings are environment variables."""
    return []


def config_set_active_profile(profile: str) -> NoReturn:
    """Raises UnimplementedError: set QMODAL_REDIS_URL and the other variables."""
    raise UnimplementedError(
        "qmodal has no profiles: set QMODAL_REDIS_URL, QMODAL_SIGNING_KEY and QMODAL_ENVIRONMENT."
    )
