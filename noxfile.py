"""The checks as sessions: `nox` runs all but the benchmark, the pictures, the long fuzz test and what needs a GPU, `nox -s lint` one of them."""

from __future__ import annotations

import shutil

import nox

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_missing_interpreters = True
nox.options.sessions = ["lint", "types", "tests"]


def install(session: nox.Session) -> None:
    """The project as it is here, with everything that the checks need."""
    session.install("-e", ".", "--group", "dev", "-c", "constraints.txt")


@nox.session
def lint(session: nox.Session) -> None:
    """Style, formatting, the arrows between packages, and the Lua scripts."""
    install(session)
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports")
    if shutil.which("luacheck"):
        session.run("luacheck", "-q", "qmodal", external=True)
    else:
        session.warn("luacheck is not installed here: the Lua scripts were not linted")


@nox.session
def types(session: nox.Session) -> None:
    """mypy, strict."""
    install(session)
    session.run("mypy", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """All tests, or those that are named behind `--`."""
    install(session)
    session.run("pytest", *session.posargs)


@nox.session
def pictures(session: nox.Session) -> None:
    """The dashboards as they look after three busy minutes, into docs/pictures/; needs Prometheus."""
    session.install("-e", ".", "--group", "test", "matplotlib>=3.9", "-c", "constraints.txt")
    session.run("python", "-m", "tests.integration.grafana.pictures.draw")


@nox.session
def gpu(session: nox.Session) -> None:
    """A CUDA program through `@app.cls(gpu="any")` on a GPU of this machine; skipped, with the reason, where there is none."""
    install(session)
    session.run("pytest", "-n", "0", "-rsP", "tests/acceptance/gpu")


@nox.session
def bench(session: nox.Session) -> None:
    """qmodal beside a bare socket and all peers, which it installs; options behind `--`."""
    session.install("-e", ".", "--group", "test", "--group", "bench", "-c", "constraints.txt")
    session.run("python", "-m", "benchmarks.environments")
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Rubbish in every key of a stack at work, for ten minutes; options behind `--`."""
    session.install("-e", ".", "--group", "test", "-c", "constraints.txt")
    session.run("python", "-m", "tests.integration.control_plane.foreign.fuzz", *session.posargs)
