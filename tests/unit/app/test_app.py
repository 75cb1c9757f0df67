"""Registering functions and classes: what is accepted, and what is refused with which words."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import logging
import pickle
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import pytest

import qmodal
from qmodal.app import lookup as app_verbs
from qmodal.app.registration import class_entry, function_entry
from qmodal.cls import handles
from qmodal.exception import DeprecationError, InvalidError
from qmodal.functions.definition import FixedSource
from qmodal.spec.registry import Definition
from qmodal.wire.signing import Signer

SIGNER = Signer(bytes(32))


def square(x: int) -> int:
    return x * x


def counted(n: int) -> Any:
    yield from range(n)


class Plain:
    size: int = qmodal.parameter(default=3)
    label: str = qmodal.parameter()
    cache: int = qmodal.parameter(init=False, default=0)

    @qmodal.method()
    def double(self, x: int) -> int:
        return 2 * x * self.size

    @qmodal.enter()
    def load(self) -> None:
        self.loaded = True

    def helper(self) -> str:
        return f"{self.label}-{self.size}"


class Older:
    def __init__(self, foo: str, bar: float = 10.3) -> None:
        self.foo = foo
        self.bar = bar

    @qmodal.method()
    def show(self) -> str:
        return f"{self.foo} {self.bar}"


def test_a_decorated_function_is_a_handle_and_not_callable() -> None:
    app = qmodal.App("demo")
    handle: Any = app.function()(square)
    assert app.registered_functions == {"square": handle}
    assert handle.local(4) == 16
    with pytest.warns(DeprecationError, match="get_raw_f"):
        assert handle.get_raw_f() is square
    with pytest.raises(TypeError, match="not callable"):
        handle(4)


def test_a_function_of_an_app_that_does_not_run_says_so() -> None:
    handle = qmodal.App("demo").function()(square)
    with pytest.raises(AttributeError, match="not hydrated"):
        _ = handle.object_id
    with pytest.raises(InvalidError, match="Can't serialize object square which hasn't been hydr"):
        pickle.dumps(handle)


def test_a_name_replaces_the_qualified_name() -> None:
    app = qmodal.App("demo")
    app.function(name="other")(square)
    assert list(app.registered_functions) == ["other"]


def test_the_second_function_under_a_name_replaces_the_first(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = qmodal.App("demo")
    first = app.function()(square)
    with caplog.at_level(logging.WARNING, logger="qmodal"):
        second = app.function()(square)
    assert app.registered_functions["square"] is second is not first
    assert "function name 'square' collision!" in caplog.text


def test_two_local_entrypoints_of_one_name_are_refused() -> None:
    app = qmodal.App("demo")
    app.local_entrypoint(name="main")(lambda: None)
    with pytest.raises(InvalidError, match="Duplicate local entrypoint name: main"):
        app.local_entrypoint(name="main")(lambda: None)


def test_a_local_entrypoint_can_be_called() -> None:
    entrypoint = qmodal.App("demo").local_entrypoint()(square)
    assert entrypoint(3) == 9


@pytest.mark.parametrize("decorator", ["function", "cls", "local_entrypoint"])
def test_parentheses_are_needed(decorator: str) -> None:
    app = qmodal.App("demo")
    with pytest.raises(TypeError, match="parentheses"):
        getattr(app, decorator)(square)


@pytest.mark.parametrize(
    ("target", "error", "words"),
    [
        (Plain, TypeError, "@app.cls"),
        (Plain.__dict__["double"], InvalidError, "@qmodal.method"),
        (3, TypeError, "not on a int"),
        (lambda: None, InvalidError, "inside another one"),
    ],
)
def test_what_is_no_function_is_refused(target: Any, error: type[Exception], words: str) -> None:
    def nested() -> None:
        return None

    options = qmodal.App("demo")._defaults.options({})
    if getattr(target, "__name__", "") == "<lambda>":
        target = nested
    with pytest.raises(error, match=words):
        function_entry(target, options, name=None, is_generator=None)


def test_a_nested_function_may_be_serialized() -> None:
    def nested() -> int:
        return 4

    options = qmodal.App("demo")._defaults.options({"serialized": True})
    spec = function_entry(nested, options, name=None, is_generator=None).spec(
        module="m", signer=SIGNER, app="demo"
    )
    assert spec.serialized is not None


def test_a_generator_is_known_as_one() -> None:
    options = qmodal.App("demo")._defaults.options({})
    entry = function_entry(counted, options, name=None, is_generator=None)
    assert entry.methods[""].is_generator


class HooksOnly:
    size: int = qmodal.parameter(default=1)

    @qmodal.enter()
    def load(self) -> None: ...


def test_a_class_may_have_hooks_and_no_methods() -> None:
    app = qmodal.App("demo")
    handle: Any = app.cls()(HooksOnly)
    assert app.registered_classes == {"HooksOnly": handle}
    assert handle(size=2).size == 2
    entry = class_entry(HooksOnly, app._defaults.options({}))
    assert entry.spec(module="m", signer=SIGNER, app="demo").methods == {}


def test_a_class_without_methods_says_that_it_has_no_containers() -> None:
    app = qmodal.App("demo")
    handle: Any = app.cls()(HooksOnly)
    spec = class_entry(HooksOnly, app._defaults.options({})).spec(
        module="m", signer=SIGNER, app="demo"
    )
    handle._source = FixedSource(Definition(app_id="ap-1", app_name="demo", spec=spec))
    with pytest.raises(InvalidError, match="HooksOnly has no method to call"):
        next(handle()._target())


class Both:
    size: float = qmodal.parameter()

    def __init__(self, size: float) -> None:
        self.size = size


class Inherits(Older):
    size: int = qmodal.parameter(init=False)


@dataclasses.dataclass
class Generated:
    size: int = qmodal.parameter()


@dataclasses.dataclass(slots=True)
class GeneratedSlots:
    size: int = qmodal.parameter(default=1)


@pytest.mark.parametrize("both", [Both, Inherits, Generated, GeneratedSlots])
def test_a_class_has_a_constructor_or_parameters(both: type) -> None:
    words = (
        r"^A class can't have both a custom __init__ constructor and dataclass-style "
        r"modal.parameter\(\) annotations"
    )
    with pytest.raises(InvalidError, match=words):
        qmodal.App("demo").cls()(both)


class Cramped:
    __slots__ = ("state",)
    size: int = qmodal.parameter(default=1)


@dataclasses.dataclass(slots=True, init=False)
class CrampedFields:
    size: int = qmodal.parameter(default=1)


@pytest.mark.parametrize("cramped", [Cramped, CrampedFields])
def test_parameters_need_room_in_the_instances(cramped: type) -> None:
    with pytest.raises(InvalidError, match=r"no room for size: .* cannot have `__slots__`"):
        qmodal.App("demo").cls()(cramped)


class Named(Protocol):
    def helper(self) -> str: ...


class Greeter(Named):
    name: str = qmodal.parameter()

    def helper(self) -> str:
        return self.name

    @qmodal.method()
    def greet(self) -> str:
        return f"hello {self.name}"


@dataclasses.dataclass(frozen=True, init=False)
class Frozen:
    name: str = qmodal.parameter()

    @qmodal.method()
    def greet(self) -> str:
        return f"hello {self.name}"


@pytest.mark.parametrize("user_class", [Greeter, Frozen])
def test_parameters_fit_classes_of_protocols_and_frozen_ones(user_class: type) -> None:
    handle: Any = qmodal.App("demo").cls()(user_class)
    assert handle(name="ada").greet.local() == "hello ada"


class Slotted:
    __slots__ = ("size",)

    def __init__(self, size: int) -> None:
        self.size = size

    @qmodal.method()
    def inner(self) -> int:
        return self.size

    @qmodal.method()
    def outer(self) -> tuple[str, int]:
        step: Any = self.inner
        return type(step).__name__, step.local()

    @qmodal.method()
    async def later(self) -> tuple[str, int]:
        gc.collect()
        step: Any = self.inner
        return type(step).__name__, step.local()

    @qmodal.method()
    def several(self) -> Iterator[str]:
        gc.collect()
        yield type(self.inner).__name__
        gc.collect()
        yield type(self.inner).__name__


def test_an_instance_with_slots_knows_its_handle_for_as_long_as_its_methods_run() -> None:
    handle: Any = qmodal.App("demo").cls()(Slotted)
    instance = handle(3)
    assert instance.outer.local() == ("Function", 3)
    assert handle(4).outer.local() == ("Function", 4)
    assert asyncio.run(handle(5).later.local()) == ("Function", 5)
    assert list(handle(6).several.local()) == ["Function", "Function"]
    raw = instance._local().instance
    reference = weakref.ref(instance)
    del instance
    gc.collect()
    assert reference() is None
    assert handles.handle_of(raw) is None


def test_an_image_of_an_app_is_that_of_what_is_defined_afterwards() -> None:
    first, second = qmodal.Image.debian_slim(), qmodal.Image.from_scratch()
    app = qmodal.App("demo", image=first)
    assert (app.image, qmodal.App("bare").image) == (first, None)
    assert app._defaults.options({}).image is first
    app.image = second
    assert app._defaults.options({}).image is second
    assert app._defaults.options({"image": first}).image is first
    with pytest.raises(InvalidError, match="image has to be a modal Image"):
        app.image = 17  # type: ignore[assignment]
    assert app.image is second


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"image": 17}, "image has to be a modal Image, not <class 'int'>"),
        ({"secrets": 17}, "`secrets` of an App must be a list"),
        ({"volumes": 17}, "`volumes` must be a dict"),
        ({"volumes": {"/a": 17}}, "must have a modal.Volume"),
    ],
)
def test_an_app_takes_no_other_objects(given: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidError, match=words):
        qmodal.App("demo", **given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"image": 17}, "^Expected modal.Image object. Got"),
        ({"secrets": 17}, "`secrets` must be a list"),
        ({"secrets": {"A": "1"}}, "`secrets` must be a list"),
        ({"volumes": [1]}, "`volumes` must be a dict"),
    ],
)
def test_a_decorator_takes_no_other_objects(given: dict[str, Any], words: str) -> None:
    for decorator in ("function", "cls"):
        with pytest.raises(InvalidError, match=words):
            getattr(qmodal.App("demo"), decorator)(**given)


def test_old_names_of_options_name_the_new_ones() -> None:
    with pytest.raises(DeprecationError, match="min_containers"):
        qmodal.App("demo").function(keep_warm=1)


@pytest.mark.parametrize("name", ["x y", "a" * 65, "", "ap-" + "a" * 22])
def test_names_that_cannot_be_looked_up_are_refused(name: str) -> None:
    from qmodal.spec.names import check_name

    with pytest.raises(InvalidError, match="Invalid App name"):
        check_name("App", name)


def test_a_class_is_constructed_by_keyword_and_checked_when_it_is_used() -> None:
    app = qmodal.App("demo")
    handle: Any = app.cls()(Plain)
    instance = handle(label="a")
    assert instance.helper() == "a-3"
    assert instance.double.local(2) == 12
    assert instance.loaded
    assert handle(label="b", size=4).helper() == "b-4"
    with pytest.raises(TypeError, match="missing: label"):
        handle().helper()


@pytest.mark.parametrize(
    ("given", "same", "equal"),
    [
        ({"label": "a"}, {"size": 3, "label": "a"}, True),
        ({"label": "a", "size": 4}, {"size": 4, "label": "a"}, True),
        ({"label": "a"}, {"label": "b"}, False),
        ({"label": "1"}, {"label": "1", "size": 1}, False),
    ],
)
def test_equal_values_are_one_pool(
    given: dict[str, Any], same: dict[str, Any], equal: bool
) -> None:
    handle: Any = qmodal.App("demo").cls()(Plain)
    specs = handle._parameters
    assert (handle(**given)._encoded(specs) == handle(**same)._encoded(specs)) is equal


def test_the_older_constructor_takes_positional_arguments() -> None:
    handle: Any = qmodal.App("demo").cls()(Older)
    assert handle("x").show.local() == "x 10.3"
    assert handle("x", 2)._encoded(None) == handle(foo="x", bar=2)._encoded(None)


def test_methods_are_not_reached_without_an_instance() -> None:
    handle: Any = qmodal.App("demo").cls()(Plain)
    with pytest.raises(AttributeError, match="forget to instantiate"):
        _ = handle.double
    found = qmodal.Cls.from_name("demo", "Plain")
    with pytest.raises(AttributeError, match=r"write `Plain\(...\).double`"):
        found.double.remote(1)
    assert not hasattr(found, "_repr_html_")
    with pytest.raises(AttributeError, match="it is not defined here"):
        _ = found.app


def test_a_lookup_with_a_dot_points_to_the_class() -> None:
    with pytest.raises(InvalidError, match=r"Cls.from_name\('app', 'Model'\)"):
        qmodal.Function.from_name("app", "Model.run")


def test_a_call_id_is_checked_for_its_shape() -> None:
    with pytest.raises(InvalidError, match="begin with fc-"):
        qmodal.FunctionCall.from_id("ap-1")


def test_handles_of_calls_travel_by_id() -> None:
    call: qmodal.FunctionCall[int] = qmodal.FunctionCall("fc-00" + "a" * 20, 1)
    assert pickle.loads(pickle.dumps(call)) == call


def renaming(raw: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(*args: Any) -> Any:
        return raw(*args)

    return wrapped


class Chained:
    @qmodal.method()
    @renaming
    def inner(self, x: int) -> int:
        return x + 1

    @qmodal.method()
    def outer(self, x: int) -> int:
        step: Any = self.inner
        result: int = step.local(x) * 10
        return result


def test_a_method_reaches_another_one_through_self() -> None:
    handle: Any = qmodal.App("demo").cls()(Chained)
    assert handle().outer.local(1) == 20


def test_an_app_takes_in_the_functions_of_others_and_their_tags(
    caplog: pytest.LogCaptureFixture,
) -> None:
    first, second = qmodal.App("one", tags={"a": "1", "b": "1"}), qmodal.App("two")
    shared = first.function(name="shared")(square)
    second.function(name="own")(counted)
    second.local_entrypoint()(main_of_two)
    whole = qmodal.App("whole", tags={"a": "0"}).include(first).include(second)
    assert list(whole.registered_functions) == ["shared", "own"]
    assert whole.registered_functions["shared"] is shared
    assert whole.registered_entrypoints == {}
    assert whole._registry.tags == {"a": "0", "b": "1"}
    assert qmodal.App("bare").include(first, inherit_tags=False)._registry.tags == {}
    assert caplog.text == ""
    whole.include(first)
    assert "function name 'shared' collision!" in caplog.text


def main_of_two() -> None:
    return None


def test_tags_are_text() -> None:
    with pytest.raises(InvalidError, match="'team': 3"):
        qmodal.App("demo", tags={"team": 3})  # type: ignore[dict-item]


def test_what_needs_a_running_app_says_so() -> None:
    app = qmodal.App("demo")._registry
    for op in (app_verbs.stop(app), app_verbs.get_tags(app), app_verbs.set_tags(app, {})):
        with pytest.raises(InvalidError, match="running, deployed or looked up"):
            next(op)


@pytest.mark.parametrize("wrong", [{"tag": "no spaces"}, {"tag": "x" * 51}, {"strategy": "fast"}])
def test_a_deploy_checks_its_tag_and_strategy(wrong: dict[str, str]) -> None:
    from qmodal.runner.deploy import check_release

    with pytest.raises(InvalidError):
        check_release(**{"tag": "", "strategy": "rolling", **wrong})


def test_the_settings_can_be_asked_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    from qmodal.config import config

    monkeypatch.setenv("QMODAL_ENVIRONMENT", "dev")
    assert config["environment"] == "dev"
    assert config.get("environment", use_env=False) == "main"
    assert "signing_key" not in config.to_dict()
    with pytest.raises(InvalidError):
        config["token_id"]


def test_plain_payloads_refuse_serialized_code_at_registration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("QMODAL_PAYLOADS", "plain")
    app = qmodal.App("plain")
    with pytest.raises(InvalidError, match="allows no pickles"):
        app.function(serialized=True)(lambda: 1)
    with pytest.raises(InvalidError, match="allows no pickles"):
        app.cls(serialized=True)(type("Local", (), {}))
    monkeypatch.delenv("QMODAL_PAYLOADS")
    app.function(serialized=True, name="f")(lambda: 1)
