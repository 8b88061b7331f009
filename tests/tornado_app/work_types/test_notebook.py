"""`notebook`: real kernels that live on while paused, are found again, and are never left behind."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from holdfast.work import Job, WorkError
from holdfast.work.testing import Workshop
from tests.support.servers import wait_until
from tests.support.work_runs import Run, Running
from tests.tornado_app.work_types.test_command import gone
from tornado_app.problems import ProblemError
from tornado_app.processes.registry import Registry
from tornado_app.settings import Settings
from tornado_app.work_types.notebook import Notebook, inject, notebook

SETTINGS = {"kill_grace": 5.0}
COBOL = {"name": "cobol", "display_name": "COBOL"}


def made(*cells: Any, **metadata: Any) -> bytes:
    content = new_notebook(
        cells=[new_code_cell(cell) if isinstance(cell, str) else cell for cell in cells], metadata=metadata
    )
    return nbformat.writes(content).encode()


def read(data: bytes) -> list[tuple[str, Any]]:
    """Source and plain outputs of every cell."""
    return [(cell.source, outputs(cell)) for cell in nbformat.reads(data.decode(), 4).cells]


def outputs(cell: Any) -> list[str]:
    return [
        output.get("text") or output.get("ename") or output.get("data", {}).get("text/plain")
        for output in cell.get("outputs", [])
    ]


@pytest.fixture(autouse=True)
def at_home(kernel_home: Path) -> None:
    """Kernels write nothing into the person's own folders."""


# -- parameters


def tagged(tag: str, source: str = "a = 1") -> Any:
    return new_code_cell(source, metadata={"tags": [tag]})


@pytest.mark.parametrize(
    ("cells", "place"),
    [
        ([new_markdown_cell("# hi"), tagged("parameters"), new_code_cell("a")], 2),
        ([new_markdown_cell("# hi"), new_code_cell("a")], 0),
        ([tagged("parameters"), new_code_cell("b"), tagged("injected-parameters", "a = 9"), new_code_cell("a")], 2),
        ([], 0),
    ],
    ids=["after the cell tagged parameters", "in front of all", "in place of an earlier one", "into an empty notebook"],
)
def test_parameters_are_put_where_papermill_puts_them(cells: list[Any], place: int) -> None:
    content = nbformat.from_dict(new_notebook(cells=cells))
    replaced = any("injected-parameters" in cell.metadata.get("tags", []) for cell in cells)
    inject(content, {"a": 'x"y\n', "b": [1, 2.5, None, True], "c": {"d": "é"}})
    assert len(content.cells) == len(cells) + (not replaced)
    cell = content.cells[place]
    assert cell.metadata["tags"] == ["injected-parameters"]
    assert cell.source.startswith("# Parameters\n")
    values: dict[str, Any] = {}
    exec(cell.source, {}, values)
    assert values == {"a": 'x"y\n', "b": [1, 2.5, None, True], "c": {"d": "é"}}
    nbformat.validate(content)


def test_an_older_notebook_without_cell_ids_stays_valid() -> None:
    content = nbformat.reads(made("a").decode(), 4)
    content.nbformat_minor = 4
    del content.cells[0]["id"]
    inject(content, {"a": 1})
    nbformat.validate(content)


@pytest.mark.parametrize(
    ("params", "says"),
    [
        (Notebook("a.txt"), "should end with .ipynb"),
        (Notebook("a.ipynb", "b.html"), "should end with .ipynb"),
        (Notebook("a.ipynb", "a.ipynb"), "output_name must be another than file_name"),
        (Notebook("a.ipynb", parameters={"a-b": 1}), "'a-b' can't be the name of a parameter"),
        (Notebook("a.ipynb", parameters={"class": 1}), "'class' can't be the name of a parameter"),
        (Notebook("../a.ipynb"), "names no file"),
    ],
    ids=lambda value: str(value),
)
def test_what_cannot_be_is_refused_at_the_start(params: Notebook, says: str) -> None:
    assert notebook.check_function is not None
    with pytest.raises((WorkError, ProblemError), match=says):
        notebook.check_function(params, Settings().__getattribute__)


def test_without_its_packages_a_clear_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "nbclient" else find(name))
    registry = Registry.load(Settings(allow_code=True))
    assert "notebook" not in registry.names
    with pytest.raises(ProblemError, match=r"install Holdfast there with the extra notebook-work") as caught:
        registry.find("notebook")
    assert caught.value.kind.status == 400


def test_where_code_of_clients_is_not_allowed_a_clear_error_names_the_switch() -> None:
    """A client that may upload a file could run anything."""
    registry = Registry.load(Settings())
    assert "notebook" not in registry.names
    with pytest.raises(ProblemError, match="runs code of clients: start the server with --allow-code") as caught:
        registry.find("notebook")
    assert caught.value.kind.status == 400
    assert "notebook" in Registry.load(Settings(allow_code=True)).names


# -- without a server


def run_here(data: bytes, **params: Any) -> tuple[Workshop, Any]:
    """Uninterrupted; the workshop and the result, or the error."""
    with Workshop(SETTINGS) as workshop:
        workshop.files.put("n.ipynb", data)
        job = Job("p", Notebook("n.ipynb", **params), services=workshop, log=workshop.log.append)
        running = notebook.function(job)
        try:
            while True:
                next(running)
        except StopIteration as end:
            return workshop, end.value
        except WorkError as error:
            return workshop, str(error)


@pytest.mark.slow
def test_parameters_reach_every_cell_after_them() -> None:
    data = made(tagged("parameters"), "b = a * 2", new_markdown_cell("hi"), "print(b); b")
    workshop, result = run_here(data, parameters={"a": 21})
    cells = read(workshop.files.read("n-p.ipynb"))
    assert [source for source, _ in cells] == ["a = 1", "# Parameters\na = 21", "b = a * 2", "hi", "print(b); b"]
    assert cells[-1][1] == ["42\n", "42"]
    assert result["cells"] == 5


@pytest.mark.slow
def test_a_cell_that_raises_fails_it_and_is_in_the_executed_notebook() -> None:
    data = made("1", "1 / 0", "2")
    workshop, said = run_here(data)
    assert said == "cell 2 raised ZeroDivisionError: division by zero. See n-p.ipynb"
    assert read(workshop.files.read("n-p.ipynb")) == [("1", ["1"]), ("1 / 0", ["ZeroDivisionError"]), ("2", [])]
    assert "ZeroDivisionError" in workshop.log[-1]
    assert "\x1b" not in workshop.log[-1]
    workshop, result = run_here(data, allow_errors=True, output_name="out/n.ipynb")
    assert result["cells"] == 3
    assert read(workshop.files.read("out/n.ipynb"))[2] == ("2", ["2"])
    assert read(workshop.files.read("n.ipynb"))[0] == ("1", []), "the notebook itself is not changed"


@pytest.mark.slow
def test_a_kernel_that_dies_fails_it_with_its_last_words() -> None:
    workshop, said = run_here(made("import os; os.write(2, b'oh no\\n'); os._exit(3)"))
    assert said.startswith("the kernel died in cell 1. The last it wrote:\n")
    assert "oh no. See n-p.ipynb" in said
    assert "oh no" in workshop.log


@pytest.mark.slow
def test_a_cell_that_takes_too_long_fails_it() -> None:
    _, said = run_here(made("import time; time.sleep(1000)"), cell_timeout_s=1)
    assert said == "cell 1 took longer than 1 s. See n-p.ipynb"


@pytest.mark.parametrize(
    ("data", "params", "says"),
    [
        (b"no json", {}, "n.ipynb is not a notebook: "),
        (b"\xff", {}, "n.ipynb is not a notebook: it is not UTF-8"),
        (b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{}]}', {}, "n.ipynb is not a notebook: "),
        (b"[]", {}, "n.ipynb is not a notebook: "),
        (made("1"), {"kernel": "cobol"}, "there is no kernel 'cobol' on the server; there is python3"),
        (made("1", kernelspec=COBOL), {}, "there is no kernel 'cobol' on the server"),
    ],
    ids=["text", "octets", "bad cells", "a list", "kernel asked for", "kernel of the notebook"],
)
def test_what_is_no_notebook_or_has_no_kernel_is_told(data: bytes, params: dict[str, Any], says: str) -> None:
    workshop, said = run_here(data, **params)
    assert said.startswith(says)
    assert workshop.files.list() == ["n.ipynb"]


def test_a_missing_notebook_is_told() -> None:
    with Workshop(SETTINGS) as workshop:
        running = notebook.function(Job("p", Notebook("n.ipynb"), services=workshop))
        with pytest.raises(WorkError, match=r"there is no file 'n.ipynb': upload it first"):
            next(running)


# -- on a server


def gated(gate: Path) -> bytes:
    """Says its process id, then makes `gate`.begun and waits for `gate` in its second cell."""
    wait = f"""import pathlib, time
pathlib.Path({str(gate)!r} + ".begun").touch()
while not pathlib.Path({str(gate)!r}).exists():
    time.sleep(0.02)"""
    return made("import os, random\npid = os.getpid(); luck = random.random(); print(pid, luck)", wait, "print(luck)")


def first_words(running: Running, name: str = "n-p.ipynb") -> tuple[int, str]:
    """Process id and number that the kernel has said in the executed notebook, as soon as it is there."""

    def look() -> list[str]:
        path = running.server.files_dir / name
        return read(path.read_bytes())[0][1] if path.exists() else []

    pid, luck = wait_until(look, 40)[0].split()
    return int(pid), luck


@pytest.mark.slow
def test_the_kernel_lives_on_while_paused_and_every_cell_is_published(run: Run, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    running = run("--allow-code", work_type="notebook", files={"n.ipynb": gated(gate)}, file_name="n.ipynb")
    pid, luck = first_words(running)
    running.ask("pause")
    gate.touch()
    assert running.until("paused")["progress"]["note"] in ("1 of 3 cells", "2 of 3 cells")
    assert not gone(pid)
    running.ask("resume")
    process = running.until("succeeded")
    cells = read((running.server.files_dir / "n-p.ipynb").read_bytes())
    assert cells[2] == ("print(luck)", [luck + "\n"])
    assert process["attempt"] == 2
    assert process["result"]["cells"] == 3
    wait_until(lambda: gone(pid))
    assert not list((running.server.data_dir / "kernels").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["python3", "by-message"], ids=["by a signal", "by a message"])
def test_kill_interrupts_the_cell_and_ends_the_kernel(run: Run, tmp_path: Path, kernel: str) -> None:
    spec = {"argv": ["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"], "display_name": "By message"}
    folder = Path(os.environ["JUPYTER_DATA_DIR"]) / "kernels/by-message"
    folder.mkdir(parents=True)
    (folder / "kernel.json").write_text(json.dumps(spec | {"language": "python", "interrupt_mode": "message"}))
    files = {"n.ipynb": gated(tmp_path / "never")}
    running = run("--allow-code", work_type="notebook", files=files, file_name="n.ipynb", kernel=kernel)
    pid, _ = first_words(running)
    wait_until((tmp_path / "never.begun").exists)
    assert running.ask("kill").status_code == 200
    assert running.until("failed")["error"] == {"type": "Killed", "message": "it was killed"}
    wait_until(lambda: gone(pid))
    assert read((running.server.files_dir / "n-p.ipynb").read_bytes())[1][1][-1:] == ["KeyboardInterrupt"]


@pytest.mark.slow
def test_a_kernel_that_ignores_the_interrupt_is_killed(run: Run) -> None:
    cell = """import os, signal, time
print(os.getpid(), 0)
signal.signal(signal.SIGINT, signal.SIG_IGN)"""
    data = made(cell, "import time\nwhile True:\n    try: time.sleep(1000)\n    except BaseException: pass")
    running = run(
        "--allow-code", "--kill-grace", "3", work_type="notebook", files={"n.ipynb": data}, file_name="n.ipynb"
    )
    pid, _ = first_words(running)
    wait_until(lambda: (running.get()["progress"] or {}).get("done") == 1)
    assert running.ask("kill").status_code == 200
    assert running.until("failed")["error"]["type"] == "Killed"
    wait_until(lambda: gone(pid))


@pytest.mark.slow
def test_cancel_while_paused_ends_the_kernel_and_keeps_what_was_executed(run: Run, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    running = run("--allow-code", work_type="notebook", files={"n.ipynb": gated(gate)}, file_name="n.ipynb")
    pid, _ = first_words(running)
    running.ask("pause")
    gate.touch()
    running.until("paused")
    running.ask("cancel")
    running.until("cancelled")
    assert gone(pid)
    assert (running.server.files_dir / "n-p.ipynb").exists()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill", "stop"])
def test_it_ends_with_the_server_and_starts_over(run: Run, tmp_path: Path, how: str) -> None:
    gate = tmp_path / "gate"
    running = run("--allow-code", work_type="notebook", files={"n.ipynb": gated(gate)}, file_name="n.ipynb")
    pid, luck = first_words(running)
    running.ask("pause")
    gate.touch()
    running.until("paused")
    (running.server.kill if how == "kill" else running.server.stop)()
    wait_until(lambda: gone(pid))
    running.server.restart()
    running.ask("resume")
    running.until("succeeded", 40)
    assert "the kernel that ran before is gone; starting over at the first cell" in running.log()
    again, other_luck = first_words(running)
    assert (again, other_luck) != (pid, luck)
    assert read((running.server.files_dir / "n-p.ipynb").read_bytes())[2] == ("print(luck)", [other_luck + "\n"])
    wait_until(lambda: gone(again))


@pytest.mark.slow
@pytest.mark.parametrize("call", ["sys.exit(0)", "sys.exit()", "sys.exit(None)", "raise SystemExit"])
def test_a_cell_that_exits_with_0_ends_the_run_well(call: str) -> None:
    """As papermill has it; a crash behind it runs nothing again."""
    with Workshop(SETTINGS) as workshop:
        workshop.files.put("n.ipynb", made("import sys; print(1)", call, "print(2)"))
        params = Notebook("n.ipynb", "out.ipynb")
        running = notebook.function(Job("p", params, services=workshop, log=workshop.log.append))
        checkpoints = [item.checkpoint for item in running]
        assert [(at.cells, at.ended) for at in checkpoints] == [(0, False), (1, False), (2, True)]
        assert [text for _, text in read(workshop.files.read("out.ipynb"))][2] == []
        again = notebook.function(Job("p", params, checkpoints[-1], services=workshop))
        with pytest.raises(StopIteration) as end:
            next(again)
        assert end.value.value == {"cells": 2, "file_name": "out.ipynb"}


@pytest.mark.slow
def test_a_cell_that_exits_with_another_status_fails() -> None:
    with Workshop(SETTINGS) as workshop:
        workshop.files.put("n.ipynb", made("import sys; sys.exit(3)", "print(2)"))
        running = notebook.function(Job("p", Notebook("n.ipynb", "out.ipynb"), services=workshop))
        with pytest.raises(WorkError, match="cell 1 raised SystemExit: 3"):
            list(running)


def test_a_file_that_is_too_large_for_a_notebook_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    with Workshop(SETTINGS) as workshop:
        workshop.files.put("n.ipynb", b"{}")
        monkeypatch.setattr(workshop.files, "size", lambda name: 10 << 30)
        monkeypatch.setattr(workshop.files, "open", lambda name: pytest.fail("it was opened"))
        with pytest.raises(WorkError, match="has 10737418240 bytes; a notebook of at most 67108864 is run"):
            list(notebook.function(Job("p", Notebook("n.ipynb"), services=workshop)))
