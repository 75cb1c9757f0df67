"""Labels and paths of web functions: what leads to which function of a version."""

from __future__ import annotations

import re
from typing import Any

import pytest

from qmodal.exception import InvalidError
from qmodal.spec.documents import FunctionSpec, MethodSpec, Version
from qmodal.spec.options import FunctionOptions
from qmodal.spec.web import host_label, routes_of, web_functions, web_methods

Given = dict[str, Any]


def function(tag: str, **web: Given) -> FunctionSpec:
    """A published function or class whose methods `web` are web functions; "f" stands for a function's own."""
    methods = {"" if name == "f" else name: {"kind": "asgi_app", **w} for name, w in web.items()}
    return FunctionSpec(
        tag=tag,
        module="m",
        qualname=tag,
        is_class=tag.endswith(".*"),
        methods={name: MethodSpec() for name in methods or {"": {}}},
        options=FunctionOptions(recorded={"web": methods} if methods else {}).to_plain(),
    )


def version(
    *functions: FunctionSpec, name: str = "my-app", environment: str = "main", runs: bool = False
) -> Version:
    return Version(
        app_id="ap-1",
        name=name,
        environment=environment,
        number=3,
        is_ephemeral=runs,
        python="3.11",
        bundle=None,
        main=None,
        functions={each.tag: each for each in functions},
    )


def routes(published: Version) -> dict[str, tuple[str, str]]:
    """`<rank> <kind> <name>` of each route, and where it leads."""
    return {
        f"{each.rank} {each.kind} {each.name}": (each.route.tag, each.route.method)
        for each in routes_of(published)
    }


@pytest.mark.parametrize(
    ("parts", "label"),
    [
        (("my-app", "f"), "my-app-f"),
        (("My_App", "MyClass.baz"), "my-app-myclass-baz"),
        (("a", "f", "dev"), "a-f-dev"),
        (("_a_", "__f__"), "a---f"),
        (("a" * 30, "b" * 32), "a" * 30 + "-" + "b" * 32),
        (("a" * 30, "b" * 33), "a" * 30 + "-" + "b" * 25 + "-[0-9a-f]{6}"),
        (("a" * 40, "b" * 40, "dev"), "a" * 40 + "-" + "b" * 15 + "-[0-9a-f]{6}"),
    ],
)
def test_names_become_one_label_of_a_host_name(parts: tuple[str, ...], label: str) -> None:
    assert re.fullmatch(label, host_label(*parts))


def test_names_in_other_alphabets_have_labels_that_differ() -> None:
    labels = {host_label("app", name) for name in ("привет", "прощай", "grüße")}
    assert len(labels) == 3
    assert all(label.isascii() and not label.startswith("-") for label in labels)
    assert len(host_label("привет")) == 6


CLASS = ("C.*", "serve")
ONE = {
    "label my-app-f": ("f", ""),
    "path my-app/f": ("f", ""),
    "path my-app": ("f", ""),
}


@pytest.mark.parametrize(
    ("published", "expected"),
    [
        (version(function("f")), {}),
        (
            version(function("f", f={}), function("g")),
            {
                **{f"deployed {name}": to for name, to in ONE.items()},
                "short label my-app": ("f", ""),
            },
        ),
        (
            version(function("f", f={}), function("C.*", serve={})),
            {
                "deployed label my-app-f": ("f", ""),
                "deployed path my-app/f": ("f", ""),
                "deployed label my-app-c-serve": CLASS,
                "deployed path my-app/C.serve": CLASS,
            },
        ),
        (
            version(function("f", f={}), runs=True),
            {
                "run label my-app-f-dev": ("f", ""),
                "run path my-app-dev/f": ("f", ""),
                "run path my-app-dev": ("f", ""),
                "short path my-app/f": ("f", ""),
                "short path my-app": ("f", ""),
                "short label my-app-dev": ("f", ""),
            },
        ),
        (
            version(function("C.*", a={}, b={}), environment="test"),
            {
                "deployed label test-my-app-c-a": ("C.*", "a"),
                "deployed path test-my-app/C.a": ("C.*", "a"),
                "short path my-app/C.a": ("C.*", "a"),
                "deployed label test-my-app-c-b": ("C.*", "b"),
                "deployed path test-my-app/C.b": ("C.*", "b"),
                "short path my-app/C.b": ("C.*", "b"),
            },
        ),
        (
            version(function("f", f={"label": "front", "custom_domains": ["a.example.com"]})),
            {
                "deployed label front": ("f", ""),
                "deployed path my-app/f": ("f", ""),
                "deployed domain a.example.com": ("f", ""),
                "deployed path my-app": ("f", ""),
                "short label my-app": ("f", ""),
            },
        ),
        (
            version(
                function("f", f={"label": "front", "custom_domains": ["a.example.com"]}),
                function("g", f={"label": "back"}),
                environment="test",
                runs=True,
            ),
            {
                "run label test-front": ("f", ""),
                "run path test-my-app-dev/f": ("f", ""),
                "short domain a.example.com": ("f", ""),
                "short path my-app/f": ("f", ""),
                "run label test-back": ("g", ""),
                "run path test-my-app-dev/g": ("g", ""),
                "short path my-app/g": ("g", ""),
            },
        ),
        (
            version(function("my f", f={}), function("grüße", f={}), name="file.py::f --x 1"),
            {
                "deployed label file-py-f---x-1-my-f": ("my f", ""),
                "deployed path file.py-f---x-1/my-f": ("my f", ""),
                f"deployed label {host_label('file.py::f --x 1', 'grüße')}": ("grüße", ""),
                "deployed path file.py-f---x-1/grüße": ("grüße", ""),
            },
        ),
    ],
    ids=["none", "one", "two", "running", "environment", "given", "given and running", "odd"],
)
def test_what_leads_to_the_web_functions_of_a_version(
    published: Version, expected: dict[str, tuple[str, str]]
) -> None:
    assert routes(published) == expected
    for each in routes_of(published):
        assert each.route[:3] == ("ap-1", published.name, published.environment)
        assert each.route.number == 3


@pytest.mark.parametrize(
    "functions",
    [
        [function("my_f", f={}), function("my-f", f={})],
        [function("a b", f={}), function("a-b", f={}), function("a.b", f={})],
        [function("f", f={}), function("g", f={"label": "my-app-f"})],
        [function("C.*", f_={}), function("C", f={})],
        [function("p" * 70 + "q", f={}), function("p" * 70 + "r", f={})],
    ],
    ids=["dash", "space", "given", "class", "long"],
)
def test_no_two_web_functions_of_an_app_have_one_name(functions: list[FunctionSpec]) -> None:
    found = web_functions(version(*functions))
    assert len({each.label for each in found}) == len({each.path for each in found}) == len(found)
    assert all(len(each.label) <= 63 for each in found)
    assert web_functions(version(*functions)) == found


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ({"label": "a"}, {"label": "a"}, "'f' and 'C.serve' have the same label, 'a'"),
        (
            {"custom_domains": ["a.b", "c.d"]},
            {"custom_domains": ["c.d"]},
            "'f' and 'C.serve' have the same domain, 'c.d'",
        ),
    ],
)
def test_what_is_given_twice_is_refused(one: Given, other: Given, words: str) -> None:
    published = version(function("f", f=one), function("C.*", serve=other))
    with pytest.raises(InvalidError, match=words):
        routes_of(published)


def test_the_spec_of_a_web_function_is_as_it_was_recorded() -> None:
    given = {"kind": "web_endpoint", "method": "POST", "docs": True, "of_a_newer_release": 1}
    (spec,) = web_methods(FunctionOptions(recorded={"web": {"": given}})).values()
    assert (spec.kind, spec.method, spec.docs) == ("fastapi_endpoint", "POST", True)
    assert (spec.label, spec.custom_domains, spec.requires_proxy_auth) == (None, (), False)
