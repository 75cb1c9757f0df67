"""Environment variables of containers: those of images and secrets, and which ones programs may set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from qmodal.spec.resource import SecretResource

# What connects a container to its server is not for programs to change.
RESERVED = "QMODAL_"


def gathered(image: Any, secrets: Iterable[Any]) -> dict[str, str]:
    """The variables of an image and of secrets, in their order."""
    variables: dict[str, str] = dict(getattr(image, "environ", None) or {})
    for secret in secrets:
        if isinstance(secret, SecretResource):
            variables |= secret.variables()
    return variables


def allowed(variables: Mapping[str, str]) -> dict[str, str]:
    """Those that a program may set in its containers."""
    return {name: value for name, value in variables.items() if not name.startswith(RESERVED)}


def missing_keys(recorded: Iterable[Any], environ: Mapping[str, str]) -> dict[str, list[str]]:
    """For each recorded named secret, which of its required variables are not there."""
    missing = {}
    for secret in recorded:
        if isinstance(secret, Mapping):
            absent = [key for key in secret.get("required_keys", ()) if key not in environ]
            if absent:
                missing[str(secret.get("name"))] = absent
    return missing
