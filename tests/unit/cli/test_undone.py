"""What a program declares and qmodal does not do."""

from __future__ import annotations

from typing import Any

import pytest

import qmodal
from qmodal.cli.undone import HEADING, say_undone, undone

IMAGE = qmodal.Image.debian_slim()


def lines_for(**options: Any) -> list[str]:
    """What is said of an app whose function `f` has these options."""
    app = qmodal.App("shop")

    @app.function(serialized=True, name="f", **options)
    def f() -> None: ...

    return [line for line in undone(app._registry) if ": f" in line]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, []),
        ({"image": IMAGE.env({"MODE": "x"}), "timeout": 5, "retries": 2}, []),
        ({"gpu": "T4", "cpu": 1, "memory": 512, "region": "eu", "env": {"A": "b"}}, []),
        (
            {"image": IMAGE.pip_install("numpy").run_commands("true").pip_install("torch")},
            [
                "image (pip_install, run_commands): f - install that in the Python environment of the workers"
            ],
        ),
        (
            {"volumes": {"/data": qmodal.Volume.from_name("data")}},
            ["volumes (/data): f - use a folder that all boxes share"],
        ),
        (
            {"network_file_systems": {"/nfs": qmodal.NetworkFileSystem.from_name("nfs")}},
            ["network_file_systems (/nfs): f - mount them on the boxes"],
        ),
        ({"cloud": "aws"}, ["cloud: f - containers run on your boxes"]),
        ({"block_network": True}, ["block_network: f - containers have the network of their box"]),
        ({"nonpreemptible": True}, ["nonpreemptible: f"]),
        (
            {"proxy": qmodal.Proxy.from_name("p")},
            ["proxy: f - traffic leaves from the boxes"],
        ),
    ],
)
def test_each_kind_has_a_line_and_what_is_done_has_none(
    options: dict[str, Any], said: list[str]
) -> None:
    assert lines_for(**options) == said


bound = qmodal.NetworkFileSystem.from_name("unused")
matcher = qmodal.FilePatternMatcher("*.py")


def test_a_kind_names_all_that_declare_it_and_what_nobody_names_has_a_line_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    app = qmodal.App("shop", image=IMAGE.apt_install("curl"))

    @app.function(serialized=True, name="f")
    def f() -> None: ...

    @app.cls(serialized=True)
    class Model:
        @qmodal.method()
        def g(self) -> None: ...

    say_undone(app._registry)
    assert capsys.readouterr().err.splitlines() == [
        HEADING,
        "  image (apt_install): f, Model - install that in the Python environment of the workers",
        "  NetworkFileSystem: bound - mount the file system on the boxes",
    ]


def test_nothing_is_said_if_all_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    app = qmodal.App("shop")
    say_undone(app._registry)
    assert capsys.readouterr().err == ""
