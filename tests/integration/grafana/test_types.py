"""The dashboards against Grafana's own types, which npm has; the TypeScript compiler compares them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.web.dashboards import dashboards

PACKAGES = ("@grafana/schema@13.2.3", "typescript@5.9.3")
COMPILE = (
    "--noEmit --strict --skipLibCheck --module esnext --moduleResolution bundler --target es2022"
)
# The types of a panel's options and of what is special for its fields, by its kind.
KINDS = {
    "bargauge": "BarGauge",
    "heatmap": "Heatmap",
    "stat": "Stat",
    "state-timeline": "StateTimeline",
    "table": "Table",
    "timeseries": "TimeSeries",
}
# JSON has the text of an enumeration's member where the types have the enumeration.
HEAD = """
import type { Dashboard } from "@grafana/schema";
type Plain<T> = T extends string ? `${T}` : T extends number | boolean | null | undefined ? T
  : T extends (infer U)[] ? Plain<U>[] : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;
type Some<T> = Partial<Plain<T>>;
"""


def install(folder: Path) -> None:
    """Install the packages there; skips where there is no npm, or it reaches no registry."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip(
            "npm is not installed here: the dashboards were not compared with Grafana's types"
        )
    command = [
        npm,
        "install",
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
        "--prefix",
        str(folder),
    ]
    try:
        run = subprocess.run(
            [*command, *PACKAGES],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
        )
    except subprocess.TimeoutExpired:
        pytest.skip(
            "npm takes too long to install Grafana's types: the dashboards were not compared"
        )
    if run.returncode != 0:
        pytest.skip(f"npm cannot install Grafana's types: {run.stderr.strip()[-300:]}")


def problems(folder: Path, **programs: str) -> dict[str, list[str]]:
    """What the compiler says of each of these programs."""
    for name, text in programs.items():
        (folder / f"{name}.ts").write_text(text)
    compiler = folder / "node_modules" / "typescript" / "bin" / "tsc"
    run = subprocess.run(
        ["node", compiler, *COMPILE.split(), *(f"{name}.ts" for name in programs)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    lines = (run.stdout + run.stderr).splitlines()
    found = {name: [line for line in lines if line.startswith(f"{name}.ts")] for name in programs}
    assert sum(map(len, found.values())) == len([line for line in lines if line[:1].strip()]), lines
    return found


def imports() -> Iterator[str]:
    types = "./node_modules/@grafana/schema/dist/types/raw/composable"
    for kind, name in KINDS.items():
        file = f"{types}/{kind.replace('-', '')}/panelcfg/x/types.gen"
        yield f'import type * as {name} from "{file}";'


def values() -> Iterator[str]:
    """Each dashboard, and what its panels leave open in the type of a dashboard."""
    for name, board in dashboards().items():
        yield f"export const {name}_: Plain<Dashboard> = {json.dumps(board.raw, indent=1)};"
        for panel in board.panels:
            kind, value = KINDS[panel.kind], f"{name}_{panel.raw['id']}"
            yield f"export const {value}: Some<{kind}.Options> = {json.dumps(panel.raw['options'])};"
            if custom := panel.defaults.get("custom"):
                yield f"export const {value}_: Some<{kind}.FieldConfig> = {json.dumps(custom)};"


@pytest.mark.timeout(300)
def test_dashboards_and_the_options_of_their_panels_have_grafanas_types(tmp_path: Path) -> None:
    install(tmp_path)
    misspelt = """
export const one: Plain<Dashboard> = { schemaVersion: 41, panels: [{ type: "stat", tittle: "x" }] };
export const two: Some<Stat.Options> = { colorMode: "backgrund" };
"""
    head = (HEAD, *imports())
    found = problems(
        tmp_path, ours="\n".join((*head, *values())), wrong="\n".join((*head, misspelt))
    )
    assert found["ours"] == []
    # It would notice.
    assert [word in "".join(found["wrong"]) for word in ("tittle", "backgrund")] == [True, True]
