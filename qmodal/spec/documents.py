"""What a deployed app is, as signed values: its functions, its version, and what a pool serves."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import msgpack

from qmodal.wire.envelope import SHAPE, MalformedError, kinds, unpack_fields
from qmodal.wire.ids import pool_id
from qmodal.wire.signing import Signer

_VERSION = kinds(dict)
_POOL = kinds(str, str, bytes, bytes, str, int)


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodSpec:
    """How one method (or a function, under the name "") is called."""

    is_generator: bool = False
    is_async: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionSpec:
    """A function or a class of an app; `tag` is its name in the app, `Cls.*` for a class."""

    tag: str
    module: str
    qualname: str
    is_class: bool
    methods: dict[str, MethodSpec]
    options: dict[str, Any]  # FunctionOptions.to_plain()
    # (name, type name, has default, default) of each class parameter; None: older constructor
    parameters: tuple[tuple[str, str, bool, Any], ...] | None = None
    serialized: bytes | None = None  # the cloudpickled function or class itself
    # In an app that was typed in: the version since which it is as it is; 0: since the one that it is part of.
    since: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One published version of an app."""

    app_id: str
    name: str
    environment: str
    number: int
    is_ephemeral: bool
    python: str
    bundle: str | None  # SHA-256 of the source bundle
    main: str | None  # module that `__main__` stands for in pickles
    functions: dict[str, FunctionSpec] = field(default_factory=dict)
    tag: str = ""  # what its deployer called it

    def seal(self, signer: Signer) -> bytes:
        """The signed bytes."""
        plain = asdict(self)
        for spec in plain["functions"].values():
            if not spec["since"]:  # nearly always, and earlier releases know no such field
                del spec["since"]
        return signer.sign("code", msgpack.packb((SHAPE, plain)))


def open_version(data: bytes, signer: Signer) -> Version:
    """Verify, then decode; raises BadSignatureError, UnknownKeyError or MalformedError."""
    (fields,) = unpack_fields(signer.verify("code", data), _VERSION)
    try:
        functions = {tag: _function(spec) for tag, spec in fields.pop("functions").items()}
        return Version(**fields, functions=functions)
    except (TypeError, KeyError, AttributeError) as error:
        raise MalformedError(f"the version was published by another release: {error}") from error


def _function(fields: dict[str, Any]) -> FunctionSpec:
    methods = {name: MethodSpec(**method) for name, method in fields.pop("methods").items()}
    parameters = fields.pop("parameters")
    if parameters is not None:
        parameters = tuple(tuple(parameter) for parameter in parameters)
    return FunctionSpec(**fields, methods=methods, parameters=parameters)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSpec:
    """What a pool serves: one function, or one class with one set of parameter values."""

    app_id: str
    function: str  # tag
    parameters: bytes = b""  # as `qmodal.spec.parameters` encodes them
    variant: bytes = b""  # packed options of `with_options`; empty for none
    label: str = ""  # what people see, such as `Translator(language='fr')`
    number: int = 0  # the version that a pinned pool runs for ever; 0: the app's current one

    @property
    def pool(self) -> str:
        """The pool's id: equal for the same values from any process."""
        name = f"{self.function}@v{self.number}" if self.number else self.function
        return pool_id(self.app_id, name, self.parameters, self.variant)

    def seal(self, signer: Signer) -> bytes:
        """The signed bytes; parameter values may hold pickles, so only signed ones are decoded."""
        place = (self.app_id, self.function, self.parameters, self.variant)
        return signer.sign("call", msgpack.packb((SHAPE, *place, self.label, self.number)))


def open_pool_spec(data: bytes, signer: Signer) -> PoolSpec:
    """Verify, then decode; raises BadSignatureError, UnknownKeyError or MalformedError."""
    app_id, function, parameters, variant, label, number = unpack_fields(
        signer.verify("call", data), _POOL
    )
    return PoolSpec(
        app_id=app_id,
        function=function,
        parameters=parameters,
        variant=variant,
        label=label,
        number=number,
    )
