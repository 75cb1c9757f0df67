"""Invocations: how `qmodal run` calls each kind of object with the arguments of a command line."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Any, cast

from qmodal.cli.arguments import Arguments, command_for, signature_of
from qmodal.cli.reference import Runnable
from qmodal.cls.partial_function import is_generator, methods_of
from qmodal.exception import ExecutionError, InvalidError
from qmodal.spec.parameters import TYPES, ParameterSpec

if TYPE_CHECKING:
    from qmodal.app.app import LocalEntrypoint
    from qmodal.cls.cls import Cls
    from qmodal.functions.function import Function

Invoke = Callable[[Arguments], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """A runnable's parameters and how to call it; `call` waits for the result."""

    signatures: tuple[Signature, ...]
    call: Invoke

    def parse(self, prog: str, argv: tuple[str, ...]) -> Arguments | None:
        """What a command line says; None if it asked for help, which has been shown then.

        Raises click.UsageError, and InvalidError for parameters that no command line can express.
        """
        command = command_for(prog, self.signatures, lambda arguments: arguments)
        parsed = command.main(list(argv), prog_name=prog, standalone_mode=False)
        return parsed if isinstance(parsed, Arguments) else None


def invocation_of(runnable: Runnable, *, detached: bool) -> Invocation:
    """The invocation of a runnable; a detached function is spawned, so that it outlives this process.

    Raises InvalidError for a generator function.
    """
    match runnable.kind:
        case "entrypoint":
            return _entrypoint(cast("LocalEntrypoint", runnable.object))
        case "function":
            return _function(cast("Function[..., Any, Any]", runnable.object), detached)
        case "method":
            return _method(cast("Cls[Any]", runnable.object), runnable, detached)


def _entrypoint(entrypoint: LocalEntrypoint) -> Invocation:
    _refuse_generator(entrypoint.name, entrypoint.raw_f)
    signature = signature_of(entrypoint.raw_f)

    def call(arguments: Arguments) -> Any:
        args, kwargs = arguments.for_call(signature)
        result = entrypoint.raw_f(*args, **kwargs)
        if not inspect.iscoroutine(result):
            return result
        import asyncio

        return asyncio.run(result)

    return Invocation(signatures=(signature,), call=call)


def _function(function: Function[..., Any, Any], detached: bool) -> Invocation:
    raw = function._raw()
    _refuse_generator(raw.__qualname__, raw)
    signature = signature_of(raw)

    def call(arguments: Arguments) -> Any:
        return _call(function, arguments, signature, detached)

    return Invocation(signatures=(signature,), call=call)


def _method(cls: Cls[Any], runnable: Runnable, detached: bool) -> Invocation:
    user_cls = cls._user_cls
    if user_cls is None:
        raise ExecutionError(f"The definition of {runnable.name} is not in this process.")
    raw = methods_of(user_cls)[runnable.method].raw_f
    _refuse_generator(runnable.name, raw)
    specs = cls._parameters
    constructor = signature_of(user_cls) if specs is None else _constructor(specs)
    signature = signature_of(raw, skip_first=True)

    def call(arguments: Arguments) -> Any:
        args, kwargs = arguments.for_call(constructor)
        method = getattr(cls(*args, **kwargs), runnable.method)
        return _call(method, arguments, signature, detached)

    return Invocation(signatures=(constructor, signature), call=call)


def _call(
    function: Function[..., Any, Any], arguments: Arguments, signature: Signature, detached: bool
) -> Any:
    args, kwargs = arguments.for_call(signature)
    if detached:
        return function.spawn(*args, **kwargs).get()
    return function.remote(*args, **kwargs)


def _constructor(specs: tuple[ParameterSpec, ...]) -> Signature:
    # No command line can say bytes; a parameter that has a default can do without.
    said = (spec for spec in specs if spec.required or spec.kind != "bytes")
    return Signature(
        [
            Parameter(
                spec.name,
                Parameter.KEYWORD_ONLY,
                default=Parameter.empty if spec.required else spec.default,
                annotation=TYPES[spec.kind],
            )
            for spec in said
        ]
    )


def _refuse_generator(name: str, raw: Callable[..., Any]) -> None:
    if is_generator(raw):
        raise InvalidError(
            f"`{name}` is a generator function, which `qmodal run` cannot run; call it from a "
            "local entrypoint with `.remote_gen(...)`."
        )
