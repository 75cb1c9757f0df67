"""What the decorators of methods and hooks mark, and what they refuse."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from qmodal.app.web import asgi_app, fastapi_endpoint, web_server
from qmodal.cls.partial_function import (
    PartialFunction,
    batched,
    concurrent,
    enter,
    exit,
    hooks_of,
    is_async,
    is_generator,
    method,
    methods_of,
)
from qmodal.exception import InvalidError


class Base:
    @enter()
    def load(self) -> str:
        return "base load"

    @exit()
    def close(self) -> None: ...

    @method()
    def run(self, x: int) -> int:
        return x + 1

    @method()
    def kept(self) -> None: ...

    @enter(snap=True)
    def warm(self) -> None: ...


class Derived(Base):
    @enter()
    async def later(self) -> None: ...

    @enter()
    def load(self) -> str:
        return "derived load"

    @method()
    def run(self, x: int) -> int:
        return x + 2

    kept = None  # type: ignore[assignment]

    @method()
    def other(self) -> Iterator[int]:
        yield 1

    def plain(self) -> None: ...


def names(partials: list[PartialFunction[..., Any, Any]]) -> list[str]:
    return [each.raw_f.__qualname__ for each in partials]


def test_methods_are_found_over_the_bases_and_overridden_by_name() -> None:
    methods = methods_of(Derived)
    assert list(methods) == ["run", "kept", "other"]
    assert methods["run"].raw_f(Derived(), 1) == 3
    assert methods_of(Base)["run"].raw_f(Base(), 1) == 2
    assert methods_of(int) == {}


def test_hooks_run_bases_first_then_as_defined() -> None:
    assert names(hooks_of(Derived, "enter")) == ["Derived.load", "Derived.later"]
    assert names(hooks_of(Derived, "snap_enter")) == ["Base.warm"]
    assert names(hooks_of(Derived, "exit")) == ["Base.close"]


def plain() -> None: ...
def hook(_: Any) -> None: ...
async def coroutine() -> None: ...
def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("raw_f", "yields", "on_a_loop"),
    [
        (plain, False, False),
        (coroutine, False, True),
        (generator, True, False),
        (async_generator, True, True),
    ],
)
def test_generators_and_coroutines_are_recognised(
    raw_f: Callable[..., Any], yields: bool, on_a_loop: bool
) -> None:
    partial = method()(raw_f)
    assert (partial.is_generator, partial.is_async) == (yields, on_a_loop)
    assert (is_generator(raw_f), is_async(raw_f)) == (yields, on_a_loop)
    assert method(is_generator=True)(raw_f).is_generator
    assert not method(is_generator=False)(raw_f).is_generator


@pytest.mark.parametrize("decorator", [method, enter, exit, batched, concurrent])
def test_parentheses_are_needed(decorator: Any) -> None:
    options = {"max_batch_size": 1, "wait_ms": 1} if decorator is batched else {}
    with pytest.raises(TypeError, match="parentheses"):
        decorator(plain, **options)


class Function:
    """Stands where `@app.function()` would have put its own object."""


Function.__module__ = "qmodal.functions.function"
BATCHED = batched(max_batch_size=2, wait_ms=1)
CONCURRENT = concurrent(max_inputs=2)


def with_default(a: int, b: int = 2) -> None: ...


@pytest.mark.parametrize(
    ("mark", "target", "error", "text"),
    [
        (method(), Base, InvalidError, "^Cannot apply `@modal.method` to a class. Hint: consider "),
        (enter(), Base, InvalidError, "^Cannot apply `@modal.enter` to a class. Hint: consider "),
        (BATCHED, Base, InvalidError, "^Cannot apply `@modal.batched` to a class. Hint: consider "),
        (asgi_app(), Base, InvalidError, "^Cannot apply `@modal.asgi_app` to a class. Hint: "),
        (web_server(80), Base, InvalidError, "^Cannot apply `@modal.web_server` to a class. Hint"),
        (
            fastapi_endpoint(),
            Base,
            InvalidError,
            "^Cannot apply `@modal.fastapi_endpoint` to a class. Hint: consider applying to a method",
        ),
        (method(), staticmethod(plain), TypeError, "not on a staticmethod"),
        (method(), 3, TypeError, "not on a int"),
        (method(), Function(), InvalidError, "Hint: swap the order of the decorators."),
        (CONCURRENT, Function(), InvalidError, "Hint: swap the order of the decorators."),
        (method(), enter()(hook), InvalidError, "cannot be combined"),
        (enter(), method()(hook), InvalidError, "cannot be combined"),
        (exit(), enter()(hook), InvalidError, "cannot be combined"),
        (BATCHED, method()(hook), InvalidError, "cannot be combined"),
        (enter(), generator, InvalidError, "yields"),
        (exit(), async_generator, InvalidError, "yields"),
        (BATCHED, generator, InvalidError, "generator"),
        (BATCHED, with_default, InvalidError, "default arguments; `b`"),
        (CONCURRENT, method()(hook), InvalidError, "cannot be used on the method hook"),
        (method(), CONCURRENT(hook), InvalidError, "cannot be used on the method hook"),
        (concurrent(), plain, TypeError, "missing required argument"),
        (concurrent(max_inputs=2, target_inputs=3), plain, InvalidError, "cannot be greater"),
        (concurrent(max_inputs=0), plain, InvalidError, "max_inputs"),
    ],
)
def test_a_decorator_on_the_wrong_thing_is_refused(
    mark: Any, target: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        mark(target)


@pytest.mark.parametrize(("size", "wait"), [(0, 1), (1001, 1), (1, -1), (1, 600_001)])
def test_a_batch_out_of_range_is_refused(size: int, wait: int) -> None:
    with pytest.raises(InvalidError):
        batched(max_batch_size=size, wait_ms=wait)


def test_batching_and_concurrency_are_recorded() -> None:
    batch: Any = BATCHED
    partial = batch(plain)
    assert (partial.kind, partial.max_batch_size, partial.wait_ms) == ("batched", 2, 1)
    partial = concurrent(max_inputs=4, target_inputs=2)(plain)
    assert (partial.kind, partial.max_inputs, partial.target_inputs) == (None, 4, 2)
    marked: Any = concurrent(max_inputs=4)
    assert marked(Base).raw_f is Base


def test_a_batched_class_has_that_one_method() -> None:
    class Alone:
        @BATCHED
        def run(self, x: list[int]) -> list[int]:
            return x

    class Mixed(Alone):
        @method()
        def other(self) -> None: ...

    class Shared:
        @CONCURRENT
        def run(self) -> None: ...

    assert methods_of(Alone)["run"].max_batch_size == 2
    with pytest.raises(InvalidError, match="no other method"):
        methods_of(Mixed)
    with pytest.raises(InvalidError, match=r"cannot be used on the method Shared\.run"):
        methods_of(Shared)
