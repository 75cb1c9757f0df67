"""Command-line options from the signature of what is run."""

from __future__ import annotations

import datetime
import inspect
import json
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter, Signature
from typing import Any, Literal, Union

import click

from qmodal.cli.options import ParamType
from qmodal.exception import ExecutionError, InvalidError, clause


class Json(ParamType[Any]):
    """A dict or a list, written as JSON."""

    def __init__(self, kind: type[dict[Any, Any]] | type[list[Any]]) -> None:
        self._kind = kind
        self.name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The object; a usage error shows how one is written."""
        try:
            found = json.loads(value)
        except ValueError as error:
            found = error
        if not isinstance(found, self._kind):
            example = "'{\"size\": 3}'" if self._kind is dict else "'[1, 2]'"
            said = f"it is {type(found).__name__}" if not isinstance(found, ValueError) else found
            self.fail(
                f"takes a {self._kind.__name__} as JSON, such as {example}: {said}", param, ctx
            )
        return found


_TYPES: dict[Any, click.ParamType[Any]] = {
    Parameter.empty: click.STRING,
    str: click.STRING,
    int: click.INT,
    float: click.FLOAT,
    bool: click.BOOL,
    datetime.datetime: click.DateTime(),
    dict: Json(dict),
    list: Json(list),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """What a command line gave: only options that were written, and the tokens for `*args`."""

    values: Mapping[str, Any]
    rest: tuple[str, ...] = ()

    def for_call(self, signature: Signature) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The positional and keyword arguments for one of the pooled signatures.

        What was not written is left out, so that the callee's own default applies.
        """
        own = {name: self.values[name] for name in signature.parameters if name in self.values}
        positional = self._positional_only(signature, own)
        keywords = {name: value for name, value in own.items() if name not in positional}
        return (*positional.values(), *self.rest), keywords

    @staticmethod
    def _positional_only(signature: Signature, own: Mapping[str, Any]) -> dict[str, Any]:
        """The positional-only ones up to the last that was written.

        One that was left out before it has no other way to get its default than from here.
        """
        only = [p for p in signature.parameters.values() if p.kind is Parameter.POSITIONAL_ONLY]
        while only and only[-1].name not in own:
            only.pop()
        return {parameter.name: own.get(parameter.name, parameter.default) for parameter in only}


def signature_of(owner: Callable[..., Any], *, skip_first: bool = False) -> Signature:
    """A callable's signature with its annotations evaluated; `skip_first` leaves out `self`.

    Raises ExecutionError if an annotation cannot be evaluated.
    """
    hinted = inspect.getattr_static(owner, "__init__") if isinstance(owner, type) else owner
    signature = inspect.signature(owner)
    try:
        hints = typing.get_type_hints(hinted)
    except Exception as error:
        name = getattr(owner, "__qualname__", repr(owner))
        raise ExecutionError(
            f"Unable to generate command line interface for app entrypoint `{name}`: "
            f"its type hints cannot be evaluated ({clause(error)})."
        ) from error
    parameters = list(signature.parameters.values())[int(skip_first) :]
    return Signature([_with_hint(parameter, hints) for parameter in parameters])


def command_for(
    name: str, signatures: Sequence[Signature], run: Callable[[Arguments], Any]
) -> click.Command:
    """The command whose options are the parameters of all signatures together.

    Several signatures are a class's constructor and method. `run` is called with what was given.
    Raises InvalidError for parameters that no command line can express.
    """
    parameters = _pooled(signatures)
    rest = [each for each in parameters if each.kind is Parameter.VAR_POSITIONAL]
    if rest and len(parameters) > 1:
        raise InvalidError(
            f"`{name}` takes *{rest[0].name} beside other parameters; *{rest[0].name} passes the "
            "whole command line on, so it must be the only parameter."
        )
    if rest:
        return _passing_command(name, run)
    options = [_option(parameter) for parameter in parameters]

    def given(**values: Any) -> Any:
        source = click.get_current_context().get_parameter_source
        written = click.core.ParameterSource.COMMANDLINE
        return run(Arguments(values={k: v for k, v in values.items() if source(k) is written}))

    return click.Command(name, params=list(options), callback=given)


def _with_hint(parameter: Parameter, hints: Mapping[str, Any]) -> Parameter:
    if parameter.annotation is Parameter.empty:
        return parameter
    return parameter.replace(annotation=hints.get(parameter.name, parameter.annotation))


def _pooled(signatures: Sequence[Signature]) -> list[Parameter]:
    pooled: dict[str, Parameter] = {}
    for signature in signatures:
        for name in signature.parameters:
            if name in pooled:
                raise InvalidError(
                    f"Both the constructor and the method have a parameter `{name}`; "
                    "one option cannot stand for two, so rename one of them."
                )
        pooled.update(signature.parameters)
    return list(pooled.values())


def _passing_command(name: str, run: Callable[[Arguments], Any]) -> click.Command:
    return click.Command(
        name,
        params=[click.Argument(["rest"], nargs=-1, type=click.UNPROCESSED)],
        callback=lambda rest: run(Arguments(values={}, rest=tuple(rest))),
        context_settings={"ignore_unknown_options": True},
    )


def _option(parameter: Parameter) -> click.Option:
    hint = _without_none(parameter.annotation)
    flag = parameter.name.replace("_", "-")
    is_flag = hint is bool
    required = parameter.default is Parameter.empty
    choices = _choices(parameter.annotation)
    kind = click.Choice([str(choice) for choice in choices]) if choices else _TYPES.get(_bare(hint))
    if kind is None:
        raise InvalidError(
            f"Parameter `{parameter.name}` has unparseable annotation: {parameter.annotation!r}"
        )
    return click.Option(
        [parameter.name, f"--{flag}/--no-{flag}" if is_flag else f"--{flag}"],
        type=None if is_flag else kind,
        required=required,
        # No `default=`: click would convert it to the option's type, and would count even None
        # as given for a required option. The callee's own default applies instead.
        help=None if required else f"[default: {parameter.default!r}]",
        callback=_to_int if choices and isinstance(choices[0], int) else None,
    )


def _bare(hint: Any) -> Any:
    """`dict` of `dict[str, int]`, and `list` of a list; any other annotation as it is."""
    origin = typing.get_origin(hint)
    return origin if origin in (dict, list) else hint


def _to_int(_context: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    return None if value is None else int(value)


def _choices(annotation: Any) -> tuple[str, ...] | tuple[int, ...]:
    """The values of a Literal that are all str or all int; bool is neither."""
    values = typing.get_args(annotation) if typing.get_origin(annotation) is Literal else ()
    return values if {type(value) for value in values} in ({str}, {int}) else ()


def _without_none(annotation: Any) -> Any:
    """T of `T | None`; any other annotation as it is."""
    if typing.get_origin(annotation) not in (Union, types.UnionType):
        return annotation
    others = [each for each in typing.get_args(annotation) if each is not types.NoneType]
    return others[0] if len(others) == 1 else annotation
