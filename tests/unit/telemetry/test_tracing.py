"""Trace contexts as text, whatever somebody has written into them, and the SDK set up by the environment."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from opentelemetry.trace import get_current_span

from qmodal.telemetry.tracing import STATE_BYTES, context_of, trace_of

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("parent", "state", "text"),
    [
        (PARENT, "", PARENT),
        (PARENT, "vendor=x", f"{PARENT} vendor=x"),
        (PARENT, "v=" + "x" * STATE_BYTES, PARENT),
        (PARENT, "vendor=x\nother: y", PARENT),
        (PARENT.upper(), "", None),
        (PARENT + "-more", "", None),
        (PARENT + "\n", "", None),
        ("", "vendor=x", None),
    ],
)
def test_only_a_context_of_w3c_travels(parent: str, state: str, text: str | None) -> None:
    assert trace_of(parent, state) == text


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        " ",
        "x",
        "\0",
        PARENT[:-1],
        "x " + PARENT,
        "00-" + "0" * 32 + PARENT[35:],
        PARENT[2:] * 1000,
    ],
)
def test_a_context_that_makes_no_sense_is_none(text: str | None) -> None:
    assert not context_of(text)


def test_a_context_comes_out_as_it_went_in() -> None:
    found = get_current_span(context_of(f"{PARENT} vendor=x")).get_span_context()
    assert (found.trace_id, found.span_id) == (int(PARENT[3:35], 16), int(PARENT[36:52], 16))
    assert found.trace_state == {"vendor": "x"}
    assert found.is_remote


SETUP = """
from qmodal_workers.container.process import otel_setup
otel_setup.begin()
from qmodal.telemetry import tracing
if tracing.is_on():
    with tracing.submitting("square", "pool", "fc-x"):
        pass
"""


@pytest.mark.parametrize(
    ("variables", "out", "error"),
    [
        ({}, "", ""),
        ({"OTEL_TRACES_EXPORTER": "none"}, "", ""),
        ({"OTEL_TRACES_EXPORTER": "console"}, '"name": "submit square"', ""),
        ({"OTEL_TRACES_EXPORTER": "console", "OTEL_SDK_DISABLED": "true"}, "", ""),
        ({"OTEL_TRACES_EXPORTER": "carrier"}, "", "'carrier', and no such exporter is installed"),
        (
            {"OTEL_TRACES_EXPORTER": "console", "OTEL_BSP_MAX_QUEUE_SIZE": "-1"},
            "",
            "no traces of this container: ValueError",
        ),
    ],
)
def test_a_container_sets_the_sdk_up_if_its_environment_says_so(
    variables: dict[str, str], out: str, error: str
) -> None:
    environ = {name: os.environ[name] for name in os.environ if not name.startswith("OTEL_")}
    ended = subprocess.run(
        [sys.executable, "-c", SETUP],
        env=environ | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    for expected, found in ((out, ended.stdout), (error, ended.stderr)):
        assert expected in found
        assert bool(expected) == bool(found)
