"""Every notebook runs from top to bottom in a kernel of its own, shows what it tells, and is kept without outputs."""

from __future__ import annotations

import tempfile
from pathlib import Path

import nbformat
import pytest

from tests.support.servers import PATIENCE

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))

TELLS: dict[str, list[str]] = {
    "01-tour": [
        "upload flights.csv: ",
        "<TransferState.PAUSED: 'paused'>",
        "<State.PAUSED: 'paused'>",
        "336776",
        "<State.CANCELLED: 'cancelled'>",
        "download flights.csv: ",
        "True",
    ],
    "02-long-processes": [
        "import-csv flights-2013: paused",
        "(<State.PAUSED: 'paused'>, True)",
        "(336776, 3)",
        "'pausing',\n 'paused',\n 'queued',\n 'running',\n 'queued',\n 'running',\n 'succeeded'",
        "rows more, then 0",
        "short.csv: row 2 (before byte 10) has 1 fields",
    ],
    "03-big-files": [
        "upload flights.csv: paused",
        "['.part']",
        "download flights.csv: ",
        "(True, [])",
        "'flights.csv' has changed on the server",
        "year,month,day,dep_time",
        "UploadBox",
        "<DownloadLink 'flights.csv'>",
    ],
    "04-your-own-work": [
        "code delays-",
        "[('AS', -9.9), ('HA', -6.9), ('AA', 0.4)]",
        "1272.0",
        "'US': 2.6",
        "airline-delays by-name: ",
        "has no parameter 'file'",
        "there is no column 'delay'",
    ],
    "05-dashboard": [
        "['paused']",
        "upload copies/first.csv: paused",
        "import-csv month-01: ",
        "'cancelled']",
        "there is no file '2013/13.csv': upload it first",
    ],
}
"""What each has to show, in this order."""

ENDS = """
import os as _os, threading as _threading
print(server.pid, _os.path.exists(server.data_dir), [t.name for t in _threading.enumerate() if t.name == "holdfast-feed"])
"""


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


def test_every_notebook_is_told_of() -> None:
    assert [path.stem for path in NOTEBOOKS] == list(TELLS)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_what_it_tells(
    path: Path, kernel_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nbclient import NotebookClient

    monkeypatch.setenv("HOLDFAST_STATE_DIR", str(kernel_home / "state"))
    before = sorted(FOLDER.iterdir())
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(ENDS))
    NotebookClient(notebook, timeout=PATIENCE, kernel_name="python3", resources={"metadata": {"path": FOLDER}}).execute()

    shown = [shown_by(cell) for cell in notebook.cells if cell.cell_type == "code"]
    text = "\n".join(shown)
    assert "Traceback" not in text
    at = 0
    for words in TELLS[path.stem]:
        at = text.find(words, at)
        assert at >= 0, f"{words!r} is not shown, or not after what comes before it:\n{text}"
    assert "False" not in "".join(shown[:-1]).split()
    outputs = repr([cell.get("outputs") for cell in notebook.cells])
    for place in (tempfile.gettempdir(), str(Path.home()), str(FOLDER.parent)):
        assert f"{place}/" not in outputs, "who saves it tells where it ran"
    assert shown[-1] == "None False []\n", "the server, its folder or a connection is left"
    assert sorted(FOLDER.iterdir()) == before


def shown_by(cell: nbformat.NotebookNode) -> str:
    """All text that a cell shows."""
    parts = []
    for output in cell.outputs:
        parts.append(output.get("text") or output.get("data", {}).get("text/plain", "") or str(output.get("traceback")))
    return "\n".join(parts)
