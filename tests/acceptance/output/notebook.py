"""A notebook: cells that are run one after another in a real kernel, and what appears below them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
CELL_SECONDS = 90


@dataclass(frozen=True)
class Shown:
    """What a cell has shown: outputs as nbformat has them."""

    outputs: list[Any]

    def stream(self, name: str) -> str:
        """What was written to `stdout` or `stderr`."""
        return "".join(each.text for each in self.outputs if each.get("name") == name)

    @property
    def result(self) -> Any:
        """The text of its last expression; None without one."""
        return self._data("execute_result", "text/plain")

    @property
    def display(self) -> Any:
        """The HTML of what it has displayed, as that was in the end."""
        return self._data("display_data", "text/html")

    @property
    def error(self) -> str:
        """The traceback as it is shown, without colours."""
        found = [each for each in self.outputs if each.output_type == "error"]
        return _COLOURS.sub("", "\n".join(found[0].traceback)) if found else ""

    def _data(self, kind: str, mime: str) -> Any:
        found = [each for each in self.outputs if each.output_type == kind]
        return found[-1].data.get(mime) if found else None


class Notebook:
    """A notebook whose kernel runs; `pid` is that of the kernel."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.pid = int(self.run("import os; os.getpid()").result)

    def run(self, source: str) -> Shown:
        """Append a cell and run it."""
        nbformat = pytest.importorskip("nbformat")
        cells = self._client.nb.cells
        cells.append(nbformat.v4.new_code_cell(source.strip()))
        self._client.execute_cell(cells[-1], len(cells) - 1)
        return Shown(cells[-1].outputs)

    def check(self, source: str) -> Shown:
        """As `run`; fails if the cell fails, or says anything on standard error."""
        shown = self.run(source)
        assert not shown.error, shown.error
        assert not shown.stream("stderr"), shown.stream("stderr")
        return shown


@contextmanager
def notebook(home: Path) -> Iterator[Notebook]:
    """A notebook whose kernel has this state folder, and no server but what it starts."""
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    made = nbformat.v4.new_notebook()
    client = nbclient.NotebookClient(
        made, timeout=CELL_SECONDS, kernel_name="python3", allow_errors=True
    )
    environ = {name: value for name, value in os.environ.items() if not name.startswith("QMODAL_")}
    client.create_kernel_manager()
    client.start_new_kernel(env={**environ, "QMODAL_HOME": str(home)}, cwd=str(home))
    try:
        client.start_new_kernel_client()
        yield Notebook(client)
    finally:
        client._cleanup_kernel()
