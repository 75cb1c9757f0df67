"""Promises about the repository itself: its sizes, its imports, its commands, its surface."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import qmodal
from qmodal.__main__ import SERVICES
from qmodal.cli import EXTERNAL, GROUP
from qmodal.store.keys import Keys

ROOT = Path(__file__).parents[3]
PACKAGES = ("qmodal", "workers/qmodal_workers", "autoscaler/qmodal_autoscaler")
LONGEST_MODULE = 400
LONGEST_SCRIPT = 60
# The rest are the beginnings of other names.
KEY_NAMES = [
    name
    for name in dir(Keys)
    if not name.startswith("_")
    and name not in {"prefix", "shard", "of_pool", "calls", "fleet", "route", "rq"}
]
FINDING = "qmodal.cli.commands.finding"
OBJECTS = "qmodal.cli.commands.objects"
PICKLES = ["cloudpickle", "qmodal.wire.pickled"]
HEAVY = [
    "cryptography",
    "dotenv",
    "redis",
    "hiredis",
    "asyncio",
    "ssl",
    "cloudpickle",
    "rich",
    "psutil",
    "click",
    "msgpack",
]

# What no process that runs for a box may keep: each takes half a mebibyte or more of every one of them.
UNNEEDED = [
    *("redis", "click", "psutil", "rich", "prometheus_client", "rq", "multiprocessing", "pydoc"),
    *("cryptography", "dotenv"),  # for templates of functions with secrets, and who publishes
    *("importlib.metadata", "importlib.resources", "email", "http.client", "argparse"),
]
_PRELOAD = "qmodal_workers.spawn.template_process as t; t.preload()"
PROCESSES = {
    "worker": f"qmodal.__main__, qmodal_workers.service, qmodal_workers.worker, {_PRELOAD}",
    "autoscaler": "qmodal.__main__, qmodal_autoscaler.service, qmodal_autoscaler.process",
    "zygote": f"{_PRELOAD}; t.preload_pickling()",
}
# What a control process runs with, but for `process`, which imports rq under a prefix of its own.
CONTROL = (
    "qmodal.services.control.service, qmodal.services.control.schedules.firing, "
    "qmodal.services.control.chores.doing"
)
# What a gateway runs with; uvicorn needs some of what is unneeded elsewhere.
GATEWAY = "qmodal.services.gateway.service, qmodal.services.gateway.server"
NOT_FOR_GATEWAYS = [
    *("aiohttp", "fastapi", "pydantic", "redis", "rich", "psutil", "rq"),
    *("prometheus_client", "http.server", "cryptography"),
]


def imported(module: str, suspects: list[str]) -> list[str]:
    """Which of the suspects a fresh interpreter has loaded after importing the module."""
    code = f"import sys, json, {module}; print(json.dumps(sorted(sys.modules)))"
    run = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, check=False)
    assert run.returncode == 0, run.stderr.decode()
    return sorted(set(suspects) & set(json.loads(run.stdout)))


def lengths(folder: str, pattern: str) -> dict[str, int]:
    found = sorted((ROOT / folder).rglob(pattern))
    assert found, f"no {pattern} below {folder}"
    return {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in found}


@pytest.mark.parametrize("process", list(PROCESSES))
def test_a_process_imports_nothing_large_that_it_does_not_need(process: str) -> None:
    assert imported(PROCESSES[process], UNNEEDED) == []


def test_an_autoscaler_without_a_command_for_shortages_has_not_what_starts_one() -> None:
    assert imported(PROCESSES["autoscaler"], ["tempfile", "shlex"]) == []


def test_a_service_is_started_with_the_command_line_or_without_it() -> None:
    assert SERVICES.keys() == {*EXTERNAL, "web", "control"} - {"simulate"}
    for name, place in SERVICES.items():
        assert callable(import_module(place).serve), name


def test_commands_of_other_packages_are_where_their_entry_points_say() -> None:
    points = {point.name: point.value for point in entry_points(group=GROUP)}
    assert {name: entry.place for name, entry in EXTERNAL.items()}.items() <= points.items()


@pytest.mark.parametrize("folder", ["workers", "autoscaler"])
def test_a_users_own_package_of_that_name_is_not_shadowed(folder: str) -> None:
    assert not (ROOT / folder / "__init__.py").exists()


@pytest.mark.parametrize("folder", [*PACKAGES, "benchmarks", "examples"])
def test_no_module_is_too_long(folder: str) -> None:
    assert {k: n for k, n in lengths(folder, "*.py").items() if n > LONGEST_MODULE} == {}


def test_no_script_is_too_long() -> None:
    scripts = lengths("qmodal/store/lua", "*.lua")
    assert {name: n for name, n in scripts.items() if n > LONGEST_SCRIPT} == {}


@pytest.mark.parametrize(
    "module",
    [
        "qmodal_workers.cli",
        PROCESSES["worker"],
        "qmodal_autoscaler.cli",
        "qmodal.cli",
        "qmodal.cli.commands.doctor",
        GATEWAY,
        CONTROL,
        f"{CONTROL}, qmodal.services.control.process, qmodal.services.control.metrics",
        ", ".join(
            f"{room}.{path.stem}"
            for room in (FINDING, OBJECTS)
            for path in (ROOT / room.replace(".", "/")).glob("[a-z]*.py")
        ),
    ],
)
def test_what_never_runs_user_code_cannot_unpickle(module: str) -> None:
    assert imported(module, PICKLES) == []


def test_a_gateway_imports_no_framework_and_nothing_large_that_it_does_not_need() -> None:
    assert imported(GATEWAY, NOT_FOR_GATEWAYS) == []


def test_rq_is_imported_by_what_a_control_process_runs_alone() -> None:
    commands = "qmodal.cli.commands.services.control, qmodal.cli.commands.services.schedule"
    assert imported(f"{CONTROL}, {commands}, qmodal.contrib.rq", ["rq", "redis"]) == []


def test_importing_qmodal_brings_in_nothing_heavy() -> None:
    assert imported("qmodal", HEAVY) == []


def test_the_public_names_are_these() -> None:
    assert qmodal.__all__ == [
        "App",
        "CloudBucketMount",
        "Cls",
        "Cluster",
        "Cron",
        "Dict",
        "Error",
        "FilePatternMatcher",
        "Function",
        "FunctionCall",
        "Image",
        "Mount",
        "NetworkFileSystem",
        "Period",
        "Proxy",
        "Queue",
        "Retries",
        "Sandbox",
        "Secret",
        "Tunnel",
        "Volume",
        "__version__",
        "asgi_app",
        "batched",
        "clustered",
        "concurrent",
        "current_function_call_id",
        "current_input_id",
        "enable_output",
        "enter",
        "exception",
        "exit",
        "experimental",
        "fastapi_endpoint",
        "forward",
        "interact",
        "is_local",
        "method",
        "parameter",
        "sessioned",
        "types",
        "web_endpoint",
        "web_server",
        "wsgi_app",
    ]


def test_the_version_is_that_of_the_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert qmodal.__version__ == project["project"]["version"]


def test_every_public_name_exists() -> None:
    assert [name for name in qmodal.__all__ if not hasattr(qmodal, name)] == []


def test_the_readme_has_one_command_for_each_of_the_two_first_steps() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    commands = [line for line in lines if line.startswith("python3 -m venv .venv && ")]
    assert [command.rsplit("/", 1)[-1] for command in commands] == ["quickstart.py", "pytest"]


def test_ci_runs_the_tests_by_the_readmes_own_line() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    pattern = re.search(r"grep -E '(.+)' README\.md", script)
    assert pattern
    found = re.findall(pattern[1], (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    assert len(found) == 1


def test_the_extra_and_the_group_for_tests_are_the_same() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    assert extras["test"] == project["dependency-groups"]["test"]
    assert set(extras["web"]) < set(extras["test"])


def test_constraints_are_versions_and_no_addresses() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[\w.]+( ; .+)?", line)] == []


def test_the_architecture_names_every_key() -> None:
    pool, call, app = "00" * 16, "fc-00" + "a" * 20, "ap-" + "a" * 22
    keys = Keys("")
    given = {"pool": pool, "call": call, "app_id": app, "shard": 0, "index": 7, "number": 7}
    spelled = {**given, "worker": "<worker>", "digest": "<digest>"}
    spelled |= {
        "environment": "<environment>",
        "name": "<name>",
        "token": "<token>",
        "reply_to": "<reply_to>",
        "gateway": "<gateway>",
        "counter": "<counter>",
        "series": "<function>",
        "function": "<function>",
        "inbox": "00<inbox>",
        "kind": "<kind>",
        "object_id": "di-00<object>",
        "partition": "<partition>",
        "writer": "<writer>",
    }
    stand_ins = {pool: "<pool>", call: "<call>", app: "<app>", "{s00}": "{sNN}"}
    stand_ins |= {"00<inbox>": "<inbox>", "di-00<object>": "<object>"}
    text = (ROOT / "ARCHITECTURE.md").read_text()
    for name in KEY_NAMES:
        found = getattr(keys, name)
        if callable(found):
            found = found(**{each: spelled[each] for each in inspect.signature(found).parameters})
        for value, stand_in in stand_ins.items():
            found = found.replace(value, stand_in)
        for part in ("blob", "failed", "result"):
            found = found.replace(f"{part}:7", f"{part}:<index>")
        found = found.replace("version:7", "version:<number>")
        found = found.replace("item:7:7", "item:<index>:<number>")
        assert f"`{found.removeprefix(':')}`" in text, name
