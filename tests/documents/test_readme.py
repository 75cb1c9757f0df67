"""The README: its example runs as it says."""

from __future__ import annotations

from tests.documents.pages import ROOT, blocks
from tests.support.installed import desk


def test_the_example_runs_by_the_command_that_it_names() -> None:
    (example,) = blocks(ROOT / "README.md", "python")
    with desk() as made:
        (made.base / "example.py").write_text(example.text)
        said = made.run("qmodal", "run", "example.py")
        made.wait_until_empty()
    assert "332833500\nbonjour, Ada" in said
