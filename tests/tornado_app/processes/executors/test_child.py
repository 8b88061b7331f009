"""Files that a client uploads into the working directory never become modules of the server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import nbformat
import pytest

from tests.support.servers import SERVING, ServerProcess, wait_until
from tornado_app import imports

PLANTED = (
    *("msgspec", "cloudpickle", "sqlalchemy", "uvloop", "tornado", "click", "rich", "holdfast", "httpx", "tzdata"),
    *("json", "csv", "multiprocessing", "concurrent", "asyncio", "logging", "sqlite3", "runpy", "encodings", "string"),
    *("resource", "sitecustomize", "usercustomize", "antigravity"),
)
KERNEL = {"ipykernel_launcher", "ipykernel", "traitlets", "zmq"}
WORK = """
import os
import sys
from helping import WORD
from holdfast.work import Progress, work_type

@work_type("mine")
def mine(job):
    yield Progress(1, 1)
    return {"word": WORD, "pid": os.getpid(), "path": sys.path}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A files directory with the planted modules in it; each leaves a mark when it is imported."""
    folder = tmp_path / "files"
    folder.mkdir()
    for name in (*PLANTED, *KERNEL):
        (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'a').write({name + ' '!r})\n")
    (folder / "own_work.py").write_text(WORK)
    (folder / "helping.py").write_text("WORD = 'helped'\n")
    return folder


@pytest.fixture(autouse=True)
def import_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test changes of it in this process is taken back."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(imports._finder, "folders", {})
    monkeypatch.setenv("HOLDFAST_IMPORT_FOLDERS", "{}")


def marked(folder: Path) -> str:
    mark = folder.parent / "mark"
    return mark.read_text() if mark.exists() else ""


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("HOLDFAST_", "PYTHONSAFE"))}


WAYS = {
    "holdfast serve": [str(Path(sys.executable).with_name("holdfast")), "serve"],
    "python -m tornado_app": [sys.executable, "-m", "tornado_app"],
}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_in_the_files_directory_only_the_imported_module_is_found(folder: Path, way: str) -> None:
    flags = ["--port", "0", "--files-dir", ".", "--data-dir", str(folder.parent / "data"), "--import", "own_work"]
    command = [*WAYS[way], *flags, "--allow-code"]
    with subprocess.Popen(command, cwd=folder, env=environment(), stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            line = child.stdout.readline()
            assert line.startswith(SERVING), marked(folder)
            url = line.removeprefix(SERVING).strip()
            for n, place in enumerate(("thread", "process")):
                body = {"id": f"p{n}", "work_type": "mine", "place": place}
                process = httpx.post(f"{url}/v1/processes?wait=60", json=body, timeout=120).json()
                assert process["state"] == "succeeded", process["error"]
                assert process["result"]["word"] == "helped"
                assert (process["result"]["pid"] == child.pid) == (place == "thread")
                path = process["result"]["path"]
                assert path.index(str(folder)) > max(i for i, entry in enumerate(path) if "lib" in entry)
        finally:
            child.terminate()
    assert marked(folder) == ""


READER = """
import os
import sys
from sqlalchemy import text
from holdfast.work import Progress, work_type

@work_type("reads")
def reads(job):
    yield Progress(1, 1)
    with job.database("other").connect() as connection:
        one = connection.execute(text("SELECT 1")).scalar()
    return {"argv": sys.argv, "environment": dict(os.environ), "one": one, "pid": os.getpid()}
"""


@pytest.mark.slow
def test_work_finds_no_secret_of_the_server_and_still_has_its_databases(
    tmp_path: Path, spawn_server: Callable[..., ServerProcess]
) -> None:
    module = tmp_path / "reading_work.py"
    module.write_text(READER)
    flags = ("--import", str(module), "--metrics-token", "hunter2-metrics")
    database = f"other=sqlite:///{tmp_path / 'hunter2.sqlite'}"
    secrets = {"HOLDFAST_TOKEN": "hunter2-token", "HOLDFAST_DATABASE": database}
    server = spawn_server(*flags, **secrets, HOLDFAST_METRICS_TOKEN="hunter2", HOLDFAST_URL="http://elsewhere")
    headers = {"Authorization": "Bearer hunter2-token"}
    body = {"id": "p", "work_type": "reads", "place": "process"}
    process = httpx.post(f"{server.url}/v1/processes?wait=60", json=body, headers=headers, timeout=120).json()
    assert process["state"] == "succeeded", process["error"]
    result = process["result"]
    assert (result["one"], len(result["argv"])) == (1, 1)
    assert result["pid"] != server.pid
    assert "hunter2" not in str(result)
    assert result["environment"]["HOLDFAST_URL"] == "http://elsewhere"


@pytest.mark.slow
def test_a_local_server_is_as_safe(folder: Path) -> None:
    code = (
        "import sys; sys.path.remove(''); import holdfast\n"
        "with holdfast.local_server(flags=['--import', './own_work.py']) as server, server.client() as client:\n"
        "    print(client.processes.start('mine', place='process').result()['word'])"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment(), capture_output=True, text=True)
    assert run.stdout == "helped\n", run.stderr
    assert marked(folder) == ""


@pytest.mark.slow
def test_a_kernel_has_the_folder_for_its_notebook_alone(
    folder: Path, spawn_server: Callable[..., ServerProcess], kernel_home: Path
) -> None:
    cell = nbformat.v4.new_code_cell("import helping; helping.WORD")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), folder / "in.ipynb")
    for name in PLANTED:  # once its kernel runs, a notebook finds what lies beside it
        (folder / f"{name}.py").unlink()
    server = spawn_server("--allow-code")
    body = {"id": "n", "work_type": "notebook", "params": {"file_name": "in.ipynb", "output_name": "out.ipynb"}}
    httpx.post(f"{server.url}/v1/processes", json=body).raise_for_status()
    process = wait_until(lambda: (p := httpx.get(f"{server.url}/v1/processes/n").json())["ended"] and p)
    assert process["state"] == "succeeded", process["error"]
    assert "helped" in (folder / "out.ipynb").read_text()
    assert marked(folder) == ""


def test_a_module_can_be_given_by_its_file(tmp_path: Path) -> None:
    (tmp_path / "by_its_file.py").write_text("")
    path = tmp_path / "by_its_file.py"
    assert imports.module_name(str(path)) == "by_its_file" == imports.make_importable(str(path), tmp_path)
    with pytest.raises(ImportError, match="no Python module at"):
        imports.make_importable(str(tmp_path / "absent.py"), tmp_path)


def test_an_import_from_the_files_directory_is_warned_of(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(folder)
    assert imports.make_importable("own_work", folder) == "own_work"
    assert "whoever may upload can replace its code" in caplog.text
