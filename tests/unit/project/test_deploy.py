"""deploy/: manifests and units that their readers accept, whose commands and settings there are, and that wait for longer than a stop takes."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from qmodal.cli import program
from tests.support.stacks import ROOT

DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
MORE_BOXES = KUBERNETES / "more-boxes"
PAGE = ROOT / "docs" / "deploying.md"
SETTINGS = set(re.findall(r"`(QMODAL_\w+)`", (ROOT / "docs" / "settings.md").read_text("utf-8")))
# What is left of a stop behind the time that inputs and requests get.
SPARE_SECONDS = 10
GATEWAY_SECONDS = 25
FILES = sorted(path for path in KUBERNETES.rglob("*.yaml") if path.name != "kustomization.yaml")
PATCH = MORE_BOXES / "autoscaler.yaml"
WHOLE = [path for path in FILES if path != PATCH]
UNITS = {path.stem: path for path in sorted((DEPLOY / "systemd").glob("*.service"))}
Manifest = dict[str, Any]


def manifests(*paths: Path) -> list[Manifest]:
    return [each for path in paths or WHOLE for each in yaml.safe_load_all(path.read_text("utf-8"))]


def deployments() -> dict[str, Manifest]:
    """The Deployments by name, without what patches say of them."""
    found = manifests(*(path for path in FILES if path.parent == KUBERNETES))
    return {each["metadata"]["name"]: each for each in found if each["kind"] == "Deployment"}


def pod(deployment: Manifest) -> dict[str, Any]:
    found: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return found


def container(deployment: Manifest) -> dict[str, Any]:
    (found,) = pod(deployment)["containers"]
    assert isinstance(found, dict)
    return found


def patched() -> list[str]:
    """The arguments of the autoscaler that adds boxes."""
    (patch,) = manifests(PATCH)
    return list(container(patch)["args"])


def unit(path: Path) -> configparser.ConfigParser:
    """The unit, of options that stand there several times the last one."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[method-assign,assignment]
    parser.read(path)
    return parser


def parsed(argv: list[str]) -> dict[str, Any]:
    """The options of a command line of qmodal, as its parser reads them; fails where it would complain."""
    assert Path(argv[0]).name == "qmodal", argv
    above = click.Context(program)
    name, command, rest = program.resolve_command(above, argv[1:])
    assert command is not None, argv
    try:
        return dict(command.make_context(name, rest, parent=above).params)
    except click.UsageError as error:
        raise AssertionError(f"{shlex.join(argv)}: {error.message}") from error


def commands() -> dict[str, list[str]]:
    """Each command line in deploy/ and in the page about it, by where it stands."""
    found = {f"kubernetes {name}": container(each)["args"] for name, each in deployments().items()}
    found["kubernetes more-boxes"] = patched()
    found |= {name: shlex.split(unit(path)["Service"]["ExecStart"]) for name, path in UNITS.items()}
    blocks = re.findall(r"^```\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("qmodal ")]
    assert lines
    return found | {line: shlex.split(line) for line in lines}


@pytest.mark.parametrize("argv", commands().values(), ids=commands())
def test_every_command_line_is_one_of_qmodal(argv: list[str]) -> None:
    parsed(argv)


def variables() -> set[str]:
    """The variables that deploy/ sets."""
    settings = (KUBERNETES / "kustomization.yaml").read_text("utf-8")
    found = set(re.findall(r"- (\w+)=", settings))
    for each in (*deployments().values(), *manifests(PATCH)):
        found |= {one["name"] for one in container(each)["env"]}
    for path in (DEPLOY / "systemd").iterdir():
        found |= set(re.findall(r"^(?:Environment=|#)?(\w+)=", path.read_text(), re.MULTILINE))
    return {name for name in found if name.isupper()}


def test_every_variable_is_a_setting() -> None:
    ours = {"MOST_WORKERS", "MOST_GPU_WORKERS", "HOME"}  # of the script that adds boxes
    assert variables() - ours <= SETTINGS
    assert {"QMODAL_REDIS_URL", "QMODAL_SIGNING_KEY", "QMODAL_HOME"} < variables()


class TestKubernetes:
    @pytest.mark.parametrize("path", WHOLE, ids=lambda path: path.stem)
    def test_the_manifests_have_the_schemas_of_kubernetes(self, path: Path) -> None:
        kubernetes = pytest.importorskip(
            "kubernetes_validate",
            reason="kubernetes-validate is not installed (it is in the group dev): the manifests were not checked",
        )
        for each in manifests(path):
            for version in ("1.30", kubernetes.latest_version()):
                kubernetes.validate(each, version, strict=True)
            with pytest.raises(kubernetes.ValidationError):
                kubernetes.validate({**each, "sepc": {}}, version, strict=True)

    def test_the_kustomization_has_every_file(self) -> None:
        for folder in (KUBERNETES, MORE_BOXES):
            text = re.sub(
                "^# ?|(?<=  )# ",
                "",
                (folder / "kustomization.yaml").read_text(),
                flags=re.MULTILINE,
            )
            named = set(re.findall(r"^ +- (?:path: )?([\w-]+\.(?:yaml|sh))$", text, re.MULTILINE))
            files = {each.name for each in folder.iterdir() if each.is_file()}
            assert named == files - {"kustomization.yaml"}

    @pytest.mark.skipif(
        shutil.which("kubectl") is None, reason="kubectl is not here: it has built nothing"
    )
    def test_kubectl_builds_it_with_all_that_is_optional(self, tmp_path: Path) -> None:
        folder = tmp_path / "kubernetes"
        shutil.copytree(KUBERNETES, folder)
        file = folder / "kustomization.yaml"
        optional = r"^(  )?# (?=(- worker-gpu|components:|  - more-boxes))"
        file.write_text(re.sub(optional, r"\1", file.read_text(), flags=re.MULTILINE))
        run = subprocess.run(
            ["kubectl", "kustomize", folder],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        built = list(yaml.safe_load_all(run.stdout))
        names = {each["metadata"]["name"] for each in built if each["kind"] == "Deployment"}
        assert names == set(deployments())
        (autoscaler,) = (
            each
            for each in built
            if (each["kind"], each["metadata"]["name"]) == ("Deployment", "qmodal-autoscaler")
        )
        assert container(autoscaler)["args"] == patched()
        assert pod(autoscaler)["automountServiceAccountToken"] is True

    def test_what_is_doubled_stays_when_one_goes(self) -> None:
        for name in ("autoscaler", "web", "control"):
            assert deployments()[f"qmodal-{name}"]["spec"]["replicas"] == 2
        budgets = {
            each["metadata"]["name"]: each for each in manifests() if "Budget" in each["kind"]
        }
        assert set(budgets) == set(deployments())
        for name, each in deployments().items():
            label = {"app.kubernetes.io/name": name}
            assert each["spec"]["selector"]["matchLabels"] == label
            assert each["spec"]["template"]["metadata"]["labels"] == label
            assert budgets[name]["spec"]["selector"]["matchLabels"] == label

    @pytest.mark.parametrize("name", deployments())
    def test_pods_are_unprivileged_and_have_no_token(self, name: str) -> None:
        """As the pod security standard `restricted` of the namespace wants it."""
        spec = pod(deployments()[name])
        own = container(deployments()[name])["securityContext"]
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert (own["allowPrivilegeEscalation"], own["capabilities"]) == (False, {"drop": ["ALL"]})
        assert own["readOnlyRootFilesystem"] is ("worker" not in name)
        assert (spec["automountServiceAccountToken"], spec["enableServiceLinks"]) == (False, False)

    @pytest.mark.parametrize("name", deployments())
    def test_probes_ask_the_port_of_metrics(self, name: str) -> None:
        each = container(deployments()[name])
        ports = {port["name"]: port["containerPort"] for port in each["ports"]}
        about = deployments()[name]["spec"]["template"]["metadata"]["annotations"]
        assert parsed(each["args"])["metrics_port"] == ports["metrics"]
        assert about["prometheus.io/port"] == str(ports["metrics"])
        for probe, path in (("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
            assert each[probe]["httpGet"] == {"path": path, "port": "metrics"}

    @pytest.mark.parametrize("name", deployments())
    def test_a_stop_is_waited_for(self, name: str) -> None:
        spec, each = pod(deployments()[name]), container(deployments()[name])
        sleeps = int(
            each.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["0"])[-1]
        )
        needs = stop_seconds(each["args"]) + sleeps
        assert spec["terminationGracePeriodSeconds"] >= needs + SPARE_SECONDS

    def test_only_gpus_are_asked_for_where_there_are_some(self) -> None:
        limits = {
            name: container(each)["resources"]["limits"] for name, each in deployments().items()
        }
        assert [name for name, each in limits.items() if "nvidia.com/gpu" in each] == [
            "qmodal-worker-gpu"
        ]
        for name in ("qmodal-worker", "qmodal-worker-gpu"):  # a box offers what it may use
            resources = container(deployments()[name])["resources"]
            assert resources["requests"].items() <= resources["limits"].items()

    def test_the_secret_is_what_the_page_makes(self) -> None:
        page = PAGE.read_text("utf-8")
        made = set(re.findall(r"--from-literal=([\w-]+)=", page))
        asked = {
            (one["valueFrom"]["secretKeyRef"]["name"], one["valueFrom"]["secretKeyRef"]["key"])
            for each in deployments().values()
            for one in container(each)["env"]
            if "valueFrom" in one
        }
        assert asked == {("qmodal", key) for key in made}
        assert "create secret generic qmodal " in page
        assert "Secret" not in {each["kind"] for each in manifests()}

    def test_the_variables_that_services_make_are_no_settings(self) -> None:
        services = [each["metadata"]["name"] for each in manifests() if each["kind"] == "Service"]
        made = {f"{name.upper().replace('-', '_')}_PORT" for name in services}
        assert made
        assert not made & SETTINGS

    def test_the_service_leads_to_the_gateways(self) -> None:
        (service,) = (each for each in manifests() if each["kind"] == "Service")
        web = deployments()["qmodal-web"]
        assert service["spec"]["selector"] == web["spec"]["selector"]["matchLabels"]
        ports = {each["name"]: each["containerPort"] for each in container(web)["ports"]}
        options = parsed(container(web)["args"])
        assert ports[service["spec"]["ports"][0]["targetPort"]] == options["port"]
        assert options["host"] == "0.0.0.0"


# Answers for one Deployment of a namespace, and notes what is scaled.
KUBECTL = """#!/bin/sh
case "$*" in
    "get deployment"*".spec.replicas"*) echo "$ASKED" ;;
    "get deployment"*".status.readyReplicas"*) echo "$READY" ;;
    "scale deployment"*) echo "$*" ;;
    *) echo "what is $*?" >&2; exit 1 ;;
esac
"""
SCALED = "scale deployment {} --current-replicas={} --replicas={}"


@pytest.mark.parametrize(
    ("gpus", "asked", "ready", "says"),
    [
        ("0", "2", "2", SCALED.format("qmodal-worker", 2, 3)),
        ("0", "0", "", SCALED.format("qmodal-worker", 0, 1)),
        ("3", "1", "1", SCALED.format("qmodal-worker-gpu", 1, 2)),
        ("0", "3", "2", "qmodal-worker: 3 were asked for, and 2 are there"),
        ("0", "1", "", "qmodal-worker: 1 were asked for, and 0 are there"),
        ("0", "10", "10", "qmodal-worker: 10 is the most"),
        ("1", "2", "2", "qmodal-worker-gpu: 2 is the most"),
    ],
)
def test_the_script_adds_a_replica_to_what_is_lacking(
    tmp_path: Path, gpus: str, asked: str, ready: str, says: str
) -> None:
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(KUBECTL)
    kubectl.chmod(0o755)
    (patch,) = manifests(PATCH)
    own = {each["name"]: each["value"] for each in container(patch)["env"]}
    environ = {"ASKED": asked, "READY": ready, "QMODAL_WANTED_GPUS": gpus, **own}
    run = subprocess.run(
        ["sh", MORE_BOXES / "more-boxes.sh"],
        env=environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (run.returncode, run.stdout.strip(), run.stderr) == (0, says, "")


def stop_seconds(argv: list[str]) -> float:
    """How long what runs in the process may go on after SIGTERM."""
    if argv[1] == "web":
        return GATEWAY_SECONDS
    return float(parsed(argv).get("grace") or 0)


class TestSystemd:
    def test_there_is_a_unit_for_each_process_of_the_procfile(self) -> None:
        names = [line.split(":")[0] for line in (ROOT / "Procfile").read_text().splitlines()]
        assert sorted(UNITS) == sorted(f"qmodal-{name}" for name in names)

    @pytest.mark.parametrize("path", UNITS.values(), ids=UNITS)
    def test_a_unit_waits_for_its_process_and_starts_it_again(self, path: Path) -> None:
        service = unit(path)["Service"]
        argv = shlex.split(service["ExecStart"])
        assert int(service["TimeoutStopSec"]) >= stop_seconds(argv) + SPARE_SECONDS
        assert service["EnvironmentFile"] == "/etc/qmodal/qmodal.env"
        assert (service["Restart"], service["User"]) == ("always", "qmodal")
        assert service["NoNewPrivileges"] == "yes"

    def test_the_ports_of_one_machine_are_different_and_those_of_the_page(self) -> None:
        argvs = {
            name: shlex.split(unit(path)["Service"]["ExecStart"]) for name, path in UNITS.items()
        }
        ports = {name: parsed(argv)["metrics_port"] for name, argv in argvs.items()}
        assert len(set(ports.values())) == len(ports)
        text = (ROOT / "docs" / "observing.md").read_text("utf-8")
        said = dict(re.findall(r"^qmodal (\w+) --metrics-port (\d+)$", text, re.MULTILINE))
        assert {name.removeprefix("qmodal-"): str(port) for name, port in ports.items()} == said

    def test_the_worker_keeps_what_user_code_and_gpus_need(self) -> None:
        service = unit(UNITS["qmodal-worker"])["Service"]
        forbidden = {
            "MemoryDenyWriteExecute",  # compilers that run at once
            "PrivateDevices",  # GPUs
            "ProtectClock",  # lists the devices that are allowed
            "PrivateTmp",  # locks of GPUs
            "PrivateIPC",
            "ProtectControlGroups",
            "SystemCallFilter",
        }
        assert not forbidden & set(service)
        # Its containers are told by it, limited by groups below its own, and may end without it.
        assert (service["KillMode"], service["Delegate"]) == ("mixed", "yes")
        assert service["OOMPolicy"] == "continue"

    @pytest.mark.skipif(
        shutil.which("systemd-analyze") is None,
        reason="systemd-analyze is not installed here: the units were only parsed",
    )
    def test_systemd_finds_nothing_wrong(self, tmp_path: Path) -> None:
        here = str(Path(sys.executable).with_name("qmodal"))
        for name, path in UNITS.items():
            text = path.read_text().replace("/opt/qmodal/bin/qmodal", here)
            (tmp_path / f"{name}.service").write_text(text)
        (tmp_path / "wrong.service").write_text("[Service]\nExecStart=/bin/true\nKilMode=mixed\n")
        said = list(verified(tmp_path))
        assert [line for line in said if "KilMode" in line] != []  # it would notice
        assert [line for line in said if "qmodal-" in line] == []


def verified(folder: Path) -> Iterator[str]:
    """What `systemd-analyze verify` says of the units there."""
    run = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *sorted(folder.glob("*.service"))],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    yield from (run.stdout + run.stderr).splitlines()
