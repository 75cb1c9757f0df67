"""How a Python signature reads as a command line."""

from __future__ import annotations

import datetime
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional, Union

import click
import pytest
from click.testing import CliRunner

from qmodal.cli.arguments import Arguments, command_for, signature_of
from qmodal.exception import ExecutionError, InvalidError

if TYPE_CHECKING:
    from decimal import Decimal

REQUIRED: Any = inspect.Parameter.empty
OPTIONAL: Any = Optional
UNION: Any = Union


def parse(
    callables: Callable[..., Any] | Sequence[Callable[..., Any]], argv: Sequence[str]
) -> dict[str, Any] | tuple[str, ...]:
    """Parse a command line: the options that were written, or the tokens for a lone `*args`."""
    several = [callables] if callable(callables) else list(callables)
    signatures = [signature_of(each) for each in several]
    command = command_for("parse", signatures, lambda arguments: arguments)
    arguments: Arguments = command.main(list(argv), standalone_mode=False)
    kinds = {each.kind for signature in signatures for each in signature.parameters.values()}
    return arguments.rest if inspect.Parameter.VAR_POSITIONAL in kinds else dict(arguments.values)


def taking(annotation: Any, default: Any = REQUIRED, name: str = "x") -> Callable[..., Any]:
    def target(**_: Any) -> None: ...

    parameter = inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )
    target.__signature__ = inspect.Signature([parameter])  # type: ignore[attr-defined]
    target.__annotations__ = {} if annotation is REQUIRED else {name: annotation}
    return target


DAY = datetime.datetime.fromisoformat("2026-05-04")
NOON = DAY.replace(hour=12, minute=30)


@pytest.mark.parametrize(
    ("annotation", "argv", "value"),
    [
        (str, "--x 5", "5"),
        (int, "--x 5", 5),
        (int, "--x -5", -5),
        (int, "--x=5", 5),
        (float, "--x 1e3", 1000.0),
        (bool, "--x", True),
        (bool, "--no-x", False),
        (datetime.datetime, "--x 2026-05-04", DAY),
        (datetime.datetime, "--x 2026-05-04T12:30:00", NOON),
        (Literal["a", "b"], "--x b", "b"),
        (Literal[1, 2, -3], "--x 2", 2),
        (Literal[1, 2, -3], "--x -3", -3),
        (OPTIONAL[int], "--x 5", 5),
        (int | None, "--x 5", 5),
        (None | bool, "--no-x", False),
        (UNION[None, datetime.datetime], "--x 2026-05-04", DAY),
        ("int", "--x 5", 5),
        ("Optional[int]", "--x 5", 5),
        ("int | None", "--x 5", 5),
        ("Literal['a']", "--x a", "a"),
        (Annotated[int, "words"], "--x 5", 5),
        (REQUIRED, "--x 5", "5"),
        (dict, '--x {"a":[1]}', {"a": [1]}),
        (dict[str, int], "--x {}", {}),
        (list[str] | None, '--x ["a"]', ["a"]),
        ("list", "--x [1,2.5,null]", [1, 2.5, None]),
    ],
)
def test_values(annotation: Any, argv: str, value: Any) -> None:
    assert parse(taking(annotation), argv.split()) == {"x": value}
    assert parse(taking(annotation, default=None), argv.split()) == {"x": value}


def test_a_date_with_a_time_may_be_written_with_a_space() -> None:
    assert parse(taking(datetime.datetime), ["--x", "2026-05-04 12:30:00"]) == {"x": NOON}


@pytest.mark.parametrize(
    ("annotation", "argv"),
    [
        (int, "--x five"),
        (int, "--x 5.0"),
        (float, "--x y"),
        (bool, "--x=true"),
        (bool, "--x true"),
        (datetime.datetime, "--x 04.05.2026"),
        (Literal["a", "b"], "--x c"),
        (Literal["a", "b"], "--x A"),
        (Literal[1, 2], "--x 3"),
        (int, ""),
        (bool, ""),
        (int | None, ""),
        (REQUIRED, ""),
        (str, "positional"),
        (str, "--y 1 --x 2"),
        (str, "--x"),
        (dict, "--x [1]"),
        (dict, "--x {a:1}"),
        (list[int], "--x 1,2"),
        (list, "--x null"),
    ],
)
def test_usage_errors(annotation: Any, argv: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        parse(taking(annotation), argv.split())
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("annotation", [str, int, bool, Literal["a"], Literal[1], REQUIRED])
@pytest.mark.parametrize("default", [None, 10, True, "text", object()])
def test_what_is_not_written_is_left_to_the_default(annotation: Any, default: Any) -> None:
    assert parse(taking(annotation, default), []) == {}


@pytest.mark.parametrize(
    "annotation",
    [
        bytes,
        tuple,
        Path,
        Any,
        int | str,
        int | str | None,
        Literal[True],
        Literal[1, "a"],
        Literal[1, True],
        Literal["a"] | None,
        None,
        "set",
    ],
)
def test_annotations_without_a_spelling_are_refused(annotation: Any) -> None:
    with pytest.raises(InvalidError, match="Parameter `x` has unparseable annotation: "):
        parse(taking(annotation), [])


def test_hints_that_cannot_be_evaluated_are_refused() -> None:
    def main(amount: Decimal) -> None: ...

    with pytest.raises(
        ExecutionError, match=r"Unable to generate command line interface for .*main.*Decimal"
    ):
        parse(main, ["--amount", "5"])


def test_an_unannotated_value_stays_a_string_whatever_its_default() -> None:
    def main(n=10, flag=False): ...  # type: ignore[no-untyped-def]

    assert parse(main, ["--n", "5", "--flag", "no"]) == {"n": "5", "flag": "no"}


def test_underscores_are_written_as_hyphens_only() -> None:
    def main(batch_size: int, use_gpu: bool = False) -> None: ...

    argv = ["--batch-size", "5", "--no-use-gpu"]
    assert parse(main, argv) == {"batch_size": 5, "use_gpu": False}
    with pytest.raises(click.UsageError):
        parse(main, ["--batch_size", "5"])


@pytest.mark.parametrize("name", ["_x", "help", "xY", "grün", "x__y", "no_x"])
def test_unusual_names_are_options_too(name: str) -> None:
    option = f"--{name.replace('_', '-')}"
    assert parse(taking(int, name=name), [option, "5"]) == {name: 5}


@pytest.mark.parametrize(
    ("argv", "rest"),
    [
        ("", ()),
        ("a b", ("a", "b")),
        ("--flag -x --n=5 a -- b", ("--flag", "-x", "--n=5", "a", "b")),
        ("--", ()),
        ("-- --help", ("--help",)),
        ("a -- b -- c", ("a", "b", "--", "c")),
    ],
)
def test_star_args_pass_everything_on(argv: str, rest: tuple[str, ...]) -> None:
    def main(*args: str) -> None: ...

    assert parse(main, argv.split()) == rest


def test_star_args_bear_no_company() -> None:
    def beside(x: int, *args: str) -> None: ...
    def with_keywords(*args: str, **kwargs: str) -> None: ...
    def method(*args: str) -> None: ...

    for callables in (beside, with_keywords, [taking(int), method]):
        with pytest.raises(InvalidError, match="only parameter"):
            parse(callables, [])


def test_star_kwargs_is_a_required_option_of_its_own_name() -> None:
    def main(**kwargs: str) -> None: ...

    assert parse(main, ["--kwargs", "a"]) == {"kwargs": "a"}
    with pytest.raises(click.UsageError):
        parse(main, [])


class Model:
    def __init__(self, size: int, name: str = "m") -> None: ...

    def predict(self, text: str, *, top: int = 1) -> None: ...

    def resize(self, size: int) -> None: ...


def test_a_constructor_and_a_method_share_one_command_line() -> None:
    constructor, method = signature_of(Model), signature_of(Model.predict, skip_first=True)
    command = command_for("predict", [constructor, method], lambda arguments: arguments)
    given: Arguments = command.main(
        ["--text", "hello", "--size", "3", "--top", "2"], standalone_mode=False
    )
    assert given.for_call(constructor) == ((), {"size": 3})
    assert given.for_call(method) == ((), {"text": "hello", "top": 2})


def test_one_option_cannot_stand_for_two_parameters() -> None:
    signatures = [signature_of(Model), signature_of(Model.resize, skip_first=True)]
    with pytest.raises(InvalidError, match="`size`"):
        command_for("resize", signatures, lambda _: None)


def test_arguments_fit_the_call() -> None:
    def positional(a: int, b: int = 2, /, c: int = 3, *, d: int = 4) -> tuple[int, ...]:
        return a, b, c, d

    def rest(*args: str) -> tuple[str, ...]:
        return args

    signature = signature_of(positional)
    args, kwargs = Arguments(values={"a": 1, "d": 9}).for_call(signature)
    assert positional(*args, **kwargs) == (1, 2, 3, 9)
    assert (args, kwargs) == ((1,), {"d": 9})
    args, kwargs = Arguments(values={}, rest=("x", "y")).for_call(signature_of(rest))
    assert rest(*args, **kwargs) == ("x", "y")


def test_what_was_not_written_is_left_to_the_callee_unless_something_behind_it_was() -> None:
    def optional(a: int = 1, b: int = 2, /, c: int = 3) -> None: ...

    signature = signature_of(optional)
    assert Arguments(values={}).for_call(signature) == ((), {})
    assert Arguments(values={"c": 4}).for_call(signature) == ((), {"c": 4})
    assert Arguments(values={"b": 5}).for_call(signature) == ((1, 5), {})


def test_help_names_options_and_defaults_but_no_docstring() -> None:
    def main(n: int = 5, kind: Literal["a", "b"] = "a", go: bool = True) -> None:
        """Private words."""

    command = command_for("main", [signature_of(main)], lambda _: None)
    result = CliRunner().invoke(command, ["--help"])
    assert result.exit_code == 0
    assert "--n INTEGER" in result.output
    assert "[default: 5]" in result.output
    assert "--go / --no-go" in result.output
    assert "Private words" not in result.output


def test_a_wrong_value_exits_with_status_two() -> None:
    command = command_for("main", [signature_of(taking(int))], lambda _: None)
    assert CliRunner().invoke(command, ["--x", "y"]).exit_code == 2
