"""`python -m benchmarks`: qmodal, a bare socket and whatever peers are installed, side by side."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.bench import Sizes
from benchmarks.environments import FOLDER
from benchmarks.picture import draw
from benchmarks.report import Results, circumstances
from benchmarks.runner import Run, is_installed
from benchmarks.server import private_server
from benchmarks.subjects import SUBJECTS
from benchmarks.tables import document
from benchmarks.workloads import WORKLOADS

QUICK, QUICK_ROUNDS, ROUNDS = 0.05, 1, 3


def main() -> None:
    """Measure, print, save."""
    options = parse()
    subjects = chosen_subjects(options)
    results = Results()
    with private_server() as server:
        shown = {name: str(value) for name, value in vars(options).items()}
        results.circumstances = circumstances(shown, server.version)
        run = Run(
            server=server,
            subjects=subjects,
            workloads=chosen_workloads(options.workloads),
            rounds=options.rounds,
            sizes=Sizes().scaled(options.scale),
            environments=options.peer_env,
            results=results,
            is_unix=options.unix,
        )
        try:
            run.all_rounds()
        except KeyboardInterrupt:
            print("interrupted: what there is so far follows")
    report(results, options.out)


def report(results: Results, folder: Path) -> None:
    """The table on standard output; table, JSON and picture in the folder."""
    text = document(results)
    print(text)
    results.save(folder / "benchmark.json")
    (folder / "benchmark.md").write_text(text, encoding="utf-8")
    print(f"{len(results.samples)} samples are in {folder / 'benchmark.json'}")
    print(draw(results, folder / "benchmark.png"))


def chosen_subjects(options: argparse.Namespace) -> list[str]:
    """Those asked for, else all that are installed; says which are not."""
    asked: Sequence[str] = options.subjects or list(SUBJECTS)
    if options.unix:
        asked = [name for name in asked if SUBJECTS[name].knows_unix]
    found = [name for name in asked if is_installed(name, options.peer_env)]
    if missing := [name for name in asked if name not in found]:
        print(f"not installed: {', '.join(missing)}")
    return found


def chosen_workloads(asked: Iterable[str]) -> list[str]:
    """All that are named, `w3` standing for each whose name begins so; all if none is named."""
    wanted = list(asked)
    return [
        name
        for name in WORKLOADS
        if not wanted or name in wanted or name.partition("-")[0] in wanted
    ]


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("--rounds", type=int, help=f"{ROUNDS} if not given")
    add("--subjects", nargs="+", choices=SUBJECTS, metavar="NAME", help=", ".join(SUBJECTS))
    add("--workloads", nargs="+", default=[], metavar="NAME", help=", ".join(WORKLOADS))
    add("--scale", type=float, default=1.0, help="make every workload so many times as long")
    add("--quick", action="store_true", help=f"--scale {QUICK} --rounds {QUICK_ROUNDS}")
    add("--unix", action="store_true", help="a Unix socket, for those who can: raw and qmodal")
    folder = FOLDER
    add("--peer-env", type=Path, default=folder, help="folder of the peers' own environments")
    add("--out", type=Path, default=Path("build/benchmark"), help="folder of the results")
    options = parser.parse_args()
    known = {*WORKLOADS, *(name.partition("-")[0] for name in WORKLOADS)}
    if unknown := set(options.workloads) - known:
        parser.error(f"no such workload: {', '.join(sorted(unknown))}")
    if options.quick:
        options.scale *= QUICK
    options.rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    options.peer_env = options.peer_env.absolute()
    return options


if __name__ == "__main__":
    main()
