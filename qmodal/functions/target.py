"""From a definition and a binding to the target of calls: which pool, which method."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Protocol

from qmodal.client import context
from qmodal.client.client import Client
from qmodal.exception import NotFoundError, RequestSizeError
from qmodal.functions.map.inputs import Arguments, MapInputs
from qmodal.spec.documents import FunctionSpec, PoolSpec
from qmodal.spec.options import FunctionOptions
from qmodal.spec.parameters import ParameterSpec
from qmodal.spec.registry import Definition
from qmodal.spec.variant import Variant, options_in_force
from qmodal.store.calls import Submission
from qmodal.transport.operation import Op
from qmodal.wire.digest import digest_of
from qmodal.wire.envelope import BLOB_BYTES, PYTHON, Head, seal
from qmodal.wire.ids import derived_call_id, is_call_id, new_call_id, shard_of
from qmodal.wire.payload import dump_arguments
from qmodal.wire.plain import NotPlain
from qmodal.wire.signing import mac_of
from qmodal.wire.trees import pack_columns


def target_of(
    definition: Definition, binding: Binding | None, variant: Variant, title: str
) -> Target:
    """The target that people call `title`; raises NotFoundError for an unknown method.

    Raises InvalidError where the variant's options are not for a function of its kind.
    """
    spec = definition.spec
    name = "" if binding is None else binding.method
    method = spec.methods.get(name)
    if method is None:
        raise _no_method(definition, name)
    pool = PoolSpec(
        app_id=definition.app_id,
        function=spec.tag,
        parameters=b"" if binding is None else binding.instance.encoded(specs_of(spec)),
        variant=variant.packed,
        label=_label(spec.tag if binding is None else binding.instance.label(), definition),
        number=definition.number,
    )
    options = options_in_force(spec, pool)
    options.check_kind(is_generator=method.is_generator)
    return Target(
        spec=pool,
        pool=pool.pool,
        method=name,
        name=title,
        is_generator=method.is_generator,
        options=options,
        main_by_reference=definition.main_by_reference,
    )


def _label(label: str, definition: Definition) -> str:
    return f"{label}@v{definition.number}" if definition.number else label


def _no_method(definition: Definition, method: str) -> NotFoundError:
    known = ", ".join(sorted(definition.spec.methods)) or "it has none"
    owner = definition.spec.tag.removesuffix(".*")
    return NotFoundError(
        f"{owner!r} of app {definition.app_name!r} has no method {method!r}: {known}."
    )


class Instance(Protocol):
    """What a method is bound to."""

    def encoded(self, specs: tuple[ParameterSpec, ...] | None) -> bytes:
        """The parameters as the pool's identity; raises InvalidError, TypeError, ValueError."""
        ...

    def label(self) -> str:
        """What people see, such as `Model(size=3)`."""
        ...


@dataclass(frozen=True, slots=True)
class Binding:
    """What a method's handle has beside its class: the method and the instance."""

    method: str
    instance: Instance


def specs_of(spec: FunctionSpec) -> tuple[ParameterSpec, ...] | None:
    """The parameters that a published class takes; None if it has a constructor of its own."""
    if spec.parameters is None:
        return None
    return tuple(ParameterSpec.from_plain(list(plain)) for plain in spec.parameters)


# A result is delivered to the caller of `.remote()` and then deleted; a caller that is paused
# longer than this, say in a closed laptop, finds it expired.
DELIVERED_TTL_MS = 3_600_000
# A pack is copied for each of its inputs that is retried.
PACK_BYTES = 8 * 1024
LARGEST_PAYLOAD = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A hydrated function or method; `main_by_reference` as in `wire.payload`."""

    spec: PoolSpec
    pool: str
    method: str
    name: str  # what people call it
    is_generator: bool
    options: FunctionOptions
    main_by_reference: bool

    def open(self, client: Client) -> Op[None]:
        """Make the pool known to the server."""
        spec = self.spec
        yield from client.pools.open(
            self.pool,
            spec=spec.seal(client.signer),
            app=spec.app_id,
            function=spec.function,
            label=spec.label,
        )

    def new_call(self, resume: str | None = None) -> str:
        """A fresh call id on the pool's shard, or that of the call with this key or id."""
        if resume is None:
            return new_call_id(shard_of(self.pool))
        if is_call_id(resume):
            return resume
        return derived_call_id(shard_of(self.pool), self.pool, resume)

    def submission(
        self,
        client: Client,
        inputs: Sequence[Arguments],
        *,
        call: str,
        first: int = 0,
        total: int | None = None,
        digest: bytes = b"",
        ttl: int | None = None,
        pack: int = 1,
    ) -> Submission:
        """Signed envelopes for the inputs, up to `pack` in each; `ttl` in ms, None for that of results.

        Raises SerializationError and RequestSizeError.
        """
        now = time.time_ns() // 1_000_000
        made = _Envelopes(self, client, call, now)
        if pack > 1:
            made.add_packs(inputs, first, pack)
        else:
            for index, arguments in enumerate(inputs, first):
                made.add(arguments, index)
        envelopes = made.sealed
        return Submission(
            call=call,
            pool=self.pool,
            digest=digest or (mac_of(envelopes[0]) if envelopes else b"empty"),
            envelopes=envelopes,
            first=first,
            total=total,
            ttl=int(client.settings.result_ttl * 1000) if ttl is None else ttl,
            parent=context.current_input_id() or "",
            now=now,
            blobs=made.blobs,
            sizes=made.sizes,
        )


FindTarget = Callable[[], Op[Target]]


class _Envelopes:
    """The signed envelopes of one submission."""

    __slots__ = ("_client", "_head", "_plain_only", "_target", "blobs", "sealed", "sizes")

    def __init__(self, target: Target, client: Client, call: str, now: int) -> None:
        self._target = target
        self._client = client
        self._head = Head(target.pool, call, target.method, now, None, PYTHON).pack()
        self._plain_only = client.settings.payloads == "plain"
        self.sealed: list[bytes] = []
        self.blobs: list[tuple[int, bytes]] = []
        self.sizes: list[int] = []

    def add(self, arguments: Arguments, index: int) -> None:
        """An envelope with one input."""
        args, kwargs = arguments
        form, payload = dump_arguments(
            args,
            kwargs,
            plain_only=self._plain_only,
            main_by_reference=self._target.main_by_reference,
        )
        if len(payload) > BLOB_BYTES:
            digest = _digest_of(payload)
            self.blobs.append((index, payload))
            self._seal(index, form, b"", digest, 1)
        else:
            self._seal(index, form, payload, None, 1)

    def add_packs(self, inputs: Sequence[Arguments], first: int, most: int) -> None:
        """Envelopes with up to `most` inputs.

        Alone go those that are not plain, or large, and those of a group without positional
        arguments or with now more, now fewer of them.
        """
        for start in range(0, len(inputs), most):
            group = inputs[start : start + most]
            payload = _packed(group)
            if payload is None:
                for index, arguments in enumerate(group, first + start):
                    self.add(arguments, index)
                self.sizes += [1] * len(group)
            elif len(payload) > PACK_BYTES:
                fitting = len(group) * PACK_BYTES // len(payload)
                self.add_packs(group, first + start, max(1, min(fitting, len(group) // 2)))
            else:
                self._seal(first + start, "m", payload, None, len(group))
                self.sizes.append(len(group))

    def _seal(self, index: int, form: str, payload: bytes, blob: bytes | None, count: int) -> None:
        own = (index, count, form, payload, blob)
        self.sealed.append(seal(self._client.signer, self._head, own))


def _packed(group: Sequence[Arguments]) -> bytes | None:
    """The inputs of one pack; None if they have to go alone."""
    if len(group) == 1:
        return None
    try:
        kwargs, columns = _by_column(group)
        return pack_columns(kwargs, columns) if columns else None
    except NotPlain:
        return None


def _by_column(group: Sequence[Arguments]) -> tuple[dict[str, Any], Sequence[Sequence[Any]]]:
    """The keyword arguments of all, and lists of the positional ones; no list if that cannot be."""
    if isinstance(group, MapInputs):
        return group.kwargs, group.columns
    kwargs = group[0][1]
    if set(map(id, map(itemgetter(1), group))) == {id(kwargs)}:
        with suppress(ValueError):  # not the same number of arguments in each
            return kwargs, [*zip(*map(itemgetter(0), group), strict=True)]
    return kwargs, []


def _digest_of(payload: bytes) -> bytes:
    """What the envelope carries instead of a payload that is stored apart."""
    if len(payload) > LARGEST_PAYLOAD:
        raise RequestSizeError(
            f"the arguments take {len(payload)} bytes, and the limit is {LARGEST_PAYLOAD}; "
            "write them to shared storage and pass the place."
        )
    return digest_of(payload)
