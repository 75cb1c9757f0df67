"""Environment variables of containers: of images, of secrets, whose values stay sealed, and which ones programs may set."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import msgpack

from qmodal.exception import Error, NotFoundError
from qmodal.spec.resource import SecretResource
from qmodal.wire.signing import INLINE, STORED, Signer

# What connects a container to its server is not for programs to change.
RESERVED = "QMODAL_"


class SealedError(Error):
    """The values of a secret cannot be opened here."""


class NamedSecret(NamedTuple):
    """A secret that is stored by name, as a function asks for it."""

    environment: str
    name: str
    required_keys: tuple[str, ...]


class SealedSecret(NamedTuple):
    """Variables whose values are sealed; their names are not. They open at `place` only."""

    place: tuple[str, ...]
    keys: tuple[str, ...]
    sealed: bytes

    @property
    def identity(self) -> tuple[str, ...]:
        """What stays when the values are changed: where it is stored. One that came with an app never changes."""
        is_stored = self.place[0] == STORED
        return self.place[:-1] if is_stored else (*self.place, self.sealed.hex())

    def opened(self, signer: Signer) -> dict[str, str]:
        """The variables; raises SealedError, which tells no value."""
        try:
            return signer.open(self.sealed, self.place)
        except Error as error:
            raise SealedError(
                f"a secret with {', '.join(self.keys) or 'no variables'} cannot be opened: {error}. Deploy the app "
                "again, or store the secret anew: `qmodal secret create NAME KEY=VALUE --force`."
            ) from None


def published(secret: SecretResource, signer: Signer, app: str) -> dict[str, Any]:
    """What a signed document of an app of that name records of a secret: its values only sealed.

    Raises InvalidError where the values cannot be had.
    """
    variables = secret.variables()
    plain = dict(secret.to_plain())
    if variables is not None:
        plain["keys"] = sorted(variables)
        plain["sealed"] = signer.seal(variables, _inline(app))
    return plain


def wanted(
    recorded: Iterable[Any], app: str, environment: str
) -> Iterator[SealedSecret | NamedSecret]:
    """The secrets that `published` has recorded, in their order; those of `environment` if they name none.

    Raises SealedError for what a release has recorded that did not seal values.
    """
    for plain in recorded:
        if not isinstance(plain, Mapping):
            continue
        if "sealed" in plain:
            yield SealedSecret(_inline(app), tuple(plain["keys"]), plain["sealed"])
        elif plain.get("name"):
            of, keys = plain.get("environment") or environment, plain.get("required_keys", ())
            yield NamedSecret(of, plain["name"], tuple(keys))
        else:
            raise SealedError("the app was published by an earlier release: deploy it again.")


def named(recorded: Iterable[Any], environment: str) -> list[NamedSecret]:
    """Those of them that are stored by name."""
    found = wanted(recorded, "", environment)
    return [secret for secret in found if isinstance(secret, NamedSecret)]


def check_keys(asked: NamedSecret, found: Container[str] | None) -> None:
    """Raise NotFoundError unless the secret is there (`found` are its keys, None: it is not), with those required."""
    said = f"secret {asked.name!r} in environment {asked.environment!r}"
    missing = [key for key in asked.required_keys if found is None or key not in found]
    pairs = " ".join(f"{key}=..." for key in missing) or "KEY=VALUE"
    place = f"{asked.name} {pairs} --env {asked.environment}"
    if found is None:
        raise NotFoundError(f"There is no {said}. Store it: `qmodal secret create {place}`.")
    if missing:
        raise NotFoundError(
            f"The {said} lacks {', '.join(missing)}. Store all of its variables anew: `qmodal secret create {place} "
            "--force`, or add to them with Secret.update."
        )


def _inline(app: str) -> tuple[str, ...]:
    """The place of values that an app of that name brings along."""
    return (INLINE, app)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerVariables:
    """All variables of a container as its worker knows them, which opens no secret. Later ones win.

    `own`: what goes before those of its image and its secrets: the option `env`, and what qmodal says itself.
    """

    image: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[SealedSecret, ...] = ()
    own: Mapping[str, str] = field(default_factory=dict)

    @property
    def in_the_clear(self) -> dict[str, str]:
        """Those of no secret."""
        return {**allowed(self.image), **self.own}

    @property
    def names(self) -> set[str]:
        """The names of all of them."""
        return {*self.in_the_clear, *(key for secret in self.secrets for key in secret.keys)}

    def opened(self, signer: Signer) -> dict[str, str]:
        """The variables with the values of secrets; raises SealedError."""
        variables = dict(self.image)
        for secret in self.secrets:
            variables |= secret.opened(signer)
        return {**allowed(variables), **self.own}

    def with_own(self, **more: str) -> ContainerVariables:
        """The same with more of our own."""
        return replace(self, own={**self.own, **more})

    def pack(self) -> bytes:
        """As bytes, for a container or its template."""
        packed: bytes = msgpack.packb((self.image, self.secrets, self.own))
        return packed

    @classmethod
    def unpack(cls, packed: bytes) -> ContainerVariables:
        """What `pack` has packed."""
        image, secrets, own = msgpack.unpackb(packed, use_list=False)
        return cls(image=image, secrets=tuple(SealedSecret(*each) for each in secrets), own=own)


def allowed(variables: Mapping[str, str]) -> dict[str, str]:
    """Those that a program may set in its containers."""
    return {name: value for name, value in variables.items() if not name.startswith(RESERVED)}
