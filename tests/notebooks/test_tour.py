"""The tour notebook runs from top to bottom in a kernel of its own, and is kept without outputs."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


@pytest.mark.slow
def test_the_tour_runs_and_shows_what_it_says(kernel_home: Path) -> None:
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOKS[0], as_version=4)
    tail = nbformat.v4.new_code_cell(
        "for p in (up, panel, down): p.watcher.join(10)\nprint([p.bar.value for p in (up, panel, down)], panel.text.value)"
    )
    notebook.cells.insert(-1, tail)  # before the server stops
    NotebookClient(notebook, timeout=60, kernel_name="python3", resources={"metadata": {"path": kernel_home}}).execute()

    shown = {cell.id: shown_by(cell) for cell in notebook.cells if cell.cell_type == "code"}
    assert all("Traceback" not in text for text in shown.values())
    text = "\n".join(shown.values())
    assert text.count("'paused'") == 2  # when pressed, and after the server was killed
    assert "'rows': 300000" in text
    assert "'cancelled'" in text
    assert "\nTrue" in text  # the digests are equal
    assert "FloatProgress" in text
    assert shown[tail.id].startswith("[1.0, 1.0, 1.0] succeeded")


def shown_by(cell: nbformat.NotebookNode) -> str:
    """All text that a cell shows."""
    parts = []
    for output in cell.outputs:
        parts.append(output.get("text") or output.get("data", {}).get("text/plain", "") or str(output.get("traceback")))
    return "\n".join(parts)
