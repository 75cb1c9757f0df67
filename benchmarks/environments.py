"""`python -m benchmarks.environments [NAME...]`: environments for the peers that need their own.

A peer that can live beside qmodal is in the dependency group `bench`. The others cap a package that
qmodal needs newer, or need a newer Python; each has a group `peer-NAME`, which is installed into
`build/peers/NAME`, where `python -m benchmarks` looks.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = Path("build/peers")
PREFIX = "peer-"
# Peers that need another Python than the oldest that qmodal runs on.
OLDEST_PYTHON = {"ardiq": (3, 12)}
NEWEST_MINOR = 20


def main() -> None:
    """Make those that are asked for, or all; one that cannot be made is reported and left out."""
    groups = peer_groups(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8")))
    parser = argparse.ArgumentParser(prog="python -m benchmarks.environments", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(groups))
    parser.add_argument("--peer-env", type=Path, default=FOLDER, help="where to put them")
    options = parser.parse_args()
    for name in options.names or groups:
        print(make(name, groups[name], options.peer_env.absolute() / name), flush=True)


def peer_groups(project: Mapping[str, Mapping[str, list[str]]]) -> dict[str, list[str]]:
    """The requirements of each peer that has a group of its own."""
    return {
        group.removeprefix(PREFIX): requirements
        for group, requirements in project["dependency-groups"].items()
        if group.startswith(PREFIX)
    }


def make(name: str, requirements: Sequence[str], folder: Path) -> str:
    """Make one environment; a sentence about what came of it."""
    if (folder / "bin" / "python").exists():
        return f"{name}: is in {folder}"
    oldest = OLDEST_PYTHON.get(name, (3, 0))
    python = find_python(oldest)
    if python is None:
        return f"{name}: left out, no Python from {oldest[0]}.{oldest[1]} on is on PATH"
    try:
        subprocess.run([python, "-m", "venv", str(folder)], check=True)
        install = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        subprocess.run([str(folder / "bin" / "python"), *install, *requirements], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        return f"{name}: left out, {error}"
    return f"{name}: made in {folder}"


def find_python(oldest: tuple[int, int]) -> str | None:
    """This interpreter, or another one on PATH, if it is new enough and runs."""
    if sys.version_info[:2] >= oldest:
        return sys.executable
    names = [f"python{oldest[0]}.{minor}" for minor in range(oldest[1], NEWEST_MINOR)]
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    found = (str(Path(folder) / name) for name in names for folder in folders)
    return next((path for path in found if os.access(path, os.X_OK) and _runs(path)), None)


def _runs(python: str) -> bool:
    """A version manager puts programs on PATH that only say which version to choose."""
    return subprocess.run([python, "--version"], capture_output=True, check=False).returncode == 0


if __name__ == "__main__":
    main()
