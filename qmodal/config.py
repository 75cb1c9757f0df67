"""The settings of this process by name, for programs that ask `qmodal.config`."""

from __future__ import annotations

import os
from typing import Any

from qmodal.settings import Settings

_SECRET = ("signing_key", "redis_url")


class Config:
    """`config["environment"]`; the names are those of the settings, in lower case."""

    def get(self, key: str, *, profile: str | None = None, use_env: bool = True) -> Any:
        """A setting as the environment gives it; raises KeyError for one that does not exist."""
        settings = Settings.from_environ(os.environ if use_env else {})
        if key not in Settings.__dataclass_fields__:
            raise KeyError(key)
        return getattr(settings, key)

    def override_locally(self, key: str, value: str) -> None:
        """Set it for this process and its children, before the first call."""
        if key not in Settings.__dataclass_fields__:
            raise KeyError(key)
        os.environ[f"QMODAL_{key.upper()}"] = value

    def __getitem__(self, key: str) -> Any:
        return self.get(key)

    def to_dict(self) -> dict[str, Any]:
        """All settings but the secrets."""
        return {
            name: self.get(name) for name in Settings.__dataclass_fields__ if name not in _SECRET
        }


config = Config()
