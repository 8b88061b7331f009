"""`notebook`: execute a notebook from the files directory, cell by cell.

Its packages are an extra and slow to import, so they are imported when a notebook runs.
"""

from __future__ import annotations

import asyncio
import keyword
import re
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from holdfast.work import Job, Progress, WorkError, work_type
from tornado_app.files import names
from tornado_app.processes.supervision import claims
from tornado_app.work_types.programs.program import wait_until_clear

if TYPE_CHECKING:
    from nbclient import NotebookClient
    from nbformat import NotebookNode

    from tornado_app.work_types.programs.kernel import Kernel

INJECTED = "injected-parameters"
PARAMETERS = "parameters"
_MOST_BYTES = 64 << 20
"""Most bytes of a notebook, because several copies of it are in memory."""
_WELL = ("", "0", "None")
"""Texts of a SystemExit that ends a run with success: later cells are not run, as in papermill."""
_POLL = 0.1  # seconds between checks whether a cell must be interrupted
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Notebook(msgspec.Struct):
    """`file_name` is run with `parameters`, and the executed notebook is written to `output_name` (by default beside
    it, named after the process). `kernel` is installed on the server; by default it is the notebook's own."""

    file_name: str
    output_name: str = ""
    parameters: dict[str, Any] = {}
    kernel: str = ""
    cell_timeout_s: Annotated[int, msgspec.Meta(ge=1)] | None = None
    allow_errors: bool = False


class _NotebookCheckpoint(msgspec.Struct):
    """`cells` of `total` cells are done and published; the rest identifies the kernel.

    `ended`: the last of them called sys.exit(0), so no more are run.
    """

    cells: int
    total: int
    pid: int
    started: int | None
    connection_file: str
    ended: bool = False


class Session:
    """A notebook in execution, with its kernel. It is kept while the process is paused."""

    def __init__(self, kernel: Kernel, client: NotebookClient) -> None:
        self.kernel = kernel
        self.client = client
        self.cells = 0
        self.began = False
        self.ended = False
        self.killed = False

    @property
    def notebook(self) -> NotebookNode:
        """The notebook with all outputs so far."""
        return self.client.nb

    def at(self) -> _NotebookCheckpoint:
        """Return the checkpoint."""
        program = self.kernel.program
        file = str(self.kernel.connection_file)
        return _NotebookCheckpoint(self.cells, len(self.notebook.cells), program.pid, program.started, file, self.ended)

    def kill(self) -> None:
        """Interrupt the cell; the second time, end the kernel. From any thread."""
        if self.killed:
            self.kernel.kill()
        self.killed = True

    async def execute(self, index: int) -> None:
        """Run a cell to its end, or until it is interrupted. Raises the errors of nbclient."""
        cell = self.notebook.cells[index]
        running = asyncio.ensure_future(self.client.async_execute_cell(cell, index))
        interrupted = False
        while not running.done():
            await asyncio.wait([running], timeout=_POLL)
            # A kernel ignores an interrupt while it is idle: until it has reported what it executes.
            if self.killed and not interrupted and "iopub.execute_input" in cell.metadata.get("execution", {}):
                interrupted = True
                self.kernel.interrupt()
        running.result()

    def close(self) -> None:
        """End the kernel."""
        self.kernel.close()


@work_type("notebook", params=Notebook, checkpoint=_NotebookCheckpoint)
def notebook(job: Job[Notebook]) -> Generator[Progress, None, dict[str, Any]]:
    """Execute a notebook from the files directory, cell by cell; the executed notebook is published after each cell.

    Parameters are written to a new cell after the one tagged `parameters`, as papermill does. Pause and cancel wait for
    the cell to end; kill interrupts it. A cell that calls sys.exit(0) ends the run with success. While paused, the
    kernel and all that it started are stopped and keep their state. The kernel ends with the server; then the notebook
    starts over, and the log says so.
    """
    output = _output_name(job.params, job.id)
    at: _NotebookCheckpoint | None = job.checkpoint
    if at is not None and (at.ended or at.cells == at.total):
        end(job)
    else:
        session = _found(job, at) or _start(job)
        job.when_killed(session.kill)
        left = False
        try:
            with closing(_cells(job, session, output)) as cells:
                for done in cells:
                    session.cells = done
                    at = session.at()
                    yield Progress(at.cells, at.total, at, f"{at.cells} of {at.total} cells")
        except GeneratorExit:
            if job.stopping in ("pause", None):  # None: a pause that was just revoked, so a new attempt begins
                session.kernel.program.stop()
                job.leave(session)
                left = True
            raise
        finally:
            if not left:
                session.close()
    return {"cells": at.cells if at else 0, "file_name": output}


@notebook.rollback
def end(job: Job[Notebook]) -> None:
    """End a kernel that is stopped. The executed notebook stays, to show what was done."""
    session = job.take()
    if isinstance(session, Session):
        session.close()
    wait_until_clear(_claim(job))
    _connection_file(job).unlink(missing_ok=True)


@notebook.check
def is_notebook(params: Notebook, setting: Callable[[str], Any]) -> None:
    """Refuse names that are not names of notebooks, and parameters that can't be variables."""
    for name in (params.file_name, params.output_name or "x.ipynb"):
        names.check(name)
        if not name.endswith(".ipynb"):
            raise WorkError(f"{name!r} is not the name of a notebook: it should end with .ipynb")
    if params.output_name == params.file_name:
        raise WorkError("output_name must be another than file_name: the notebook itself is not changed")
    for name in params.parameters:
        if not name.isidentifier() or keyword.iskeyword(name):
            raise WorkError(f"{name!r} can't be the name of a parameter: it becomes a variable")


def _cells(job: Job[Notebook], session: Session, output: str) -> Generator[int, None, None]:
    """Execute the cells that are left; yield the number of cells done at the start, and after each is published."""
    with asyncio.Runner() as runner:
        try:
            session.client.kc = runner.run(session.kernel.connect(job.log))
            if not session.began:  # the kernel is in the journal before anything is waited for
                session.began = True
                _write(job, session, output)
                yield 0
            for index in range(session.cells, len(session.notebook.cells)):
                failure = runner.run(_execute(job, session, index))
                _write(job, session, output)
                if failure:
                    raise WorkError(f"{failure}. See {output}")
                yield index + 1
                if session.ended:
                    job.log(f"cell {index + 1} has ended the run by sys.exit")
                    break
            runner.run(session.kernel.shut_down())
        finally:
            session.client.kc = None
            runner.run(session.kernel.disconnect())


async def _execute(job: Job[Notebook], session: Session, index: int) -> str:
    """Run a cell and return the reason why it failed, or ""."""
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    which = f"cell {index + 1}"
    if session.killed:
        return f"{which} was not begun"
    try:
        await session.execute(index)
    except CellExecutionError as error:
        if error.ename == "SystemExit" and error.evalue in _WELL:
            session.ended = True
            return ""
        job.log(_COLOURS.sub("", error.traceback))
        return f"{which} raised {error.ename}: {error.evalue}"
    except CellTimeoutError:
        return f"{which} took longer than {job.params.cell_timeout_s} s"
    except DeadKernelError:
        return f"the kernel died in {which}{session.kernel.last_words()}"
    return f"{which} was interrupted" if session.killed else ""


def _start(job: Job[Notebook]) -> Session:
    """Start a new kernel, for the notebook from its first cell."""
    from nbclient import NotebookClient

    from tornado_app.work_types.programs.kernel import Kernel

    params = job.params
    if job.attempt > 1:  # even without a checkpoint, which may not have reached the journal
        job.log("the kernel that ran before is gone; starting over at the first cell")
    content = _read(job)
    name = params.kernel or content.metadata.get("kernelspec", {}).get("name") or "python3"
    folder = Path(job.setting("files_dir"), PurePosixPath(params.file_name).parent)
    if not folder.is_dir():  # the files are not in a directory (--store memory)
        folder = _connection_file(job).parent
        folder.mkdir(parents=True, exist_ok=True)
    kernel = Kernel(name, _connection_file(job), folder=folder, grace=job.setting("kill_grace"), claim=_claim(job))
    try:
        if params.parameters:
            if kernel.language != "python":
                raise WorkError(f"parameters can be given to notebooks in Python, not in {kernel.language}")
            inject(content, params.parameters)
        client = NotebookClient(content, timeout=params.cell_timeout_s, allow_errors=params.allow_errors)
    except BaseException:
        kernel.close()
        raise
    return Session(kernel, client)


def _found(job: Job[Notebook], at: _NotebookCheckpoint | None) -> Session | None:
    """Return the session that an earlier attempt left, if it is the one of the checkpoint and its kernel lives."""
    session = job.take()
    if not isinstance(session, Session):
        return None
    session.kernel.program.poll()
    if session.at() == at and session.kernel.program.exit_code is None:
        session.kernel.program.resume()
        return session
    session.close()
    return None


def _read(job: Job[Notebook]) -> NotebookNode:
    import nbformat

    name = job.params.file_name
    try:
        size = job.files.size(name)
        if size > _MOST_BYTES:
            raise WorkError(f"{name} has {size} bytes; a notebook of at most {_MOST_BYTES} is run: clear its outputs")
        with job.files.open(name) as file:
            text = file.read(_MOST_BYTES).decode()
    except FileNotFoundError:
        raise WorkError(f"there is no file {name!r}: upload it first") from None
    except UnicodeDecodeError:
        raise WorkError(f"{name} is not a notebook: it is not UTF-8") from None
    try:
        content: NotebookNode = nbformat.reads(text, as_version=4)  # type: ignore[no-untyped-call]
        nbformat.validate(content)
    except Exception as error:  # nbformat has no common error, and also raises KeyError and AttributeError
        raise WorkError(f"{name} is not a notebook: {str(error).splitlines()[0] or type(error).__name__}") from None
    return content


def _write(job: Job[Notebook], session: Session, output: str) -> None:
    """Publish the notebook with all outputs so far."""
    import nbformat

    session.client.set_widgets_metadata()
    staged = job.files.stage(output, f"notebook-{job.id}")
    staged.truncate(0)
    staged.write(nbformat.writes(session.notebook).encode())  # type: ignore[no-untyped-call]
    staged.publish()


def inject(content: NotebookNode, parameters: dict[str, Any]) -> None:
    """Write the parameters to a cell of their own, where papermill puts it: in place of an earlier one, else after
    the cell tagged `parameters`, else before all cells."""
    from nbformat.v4 import new_code_cell

    # repr writes a value that came as JSON as Python.
    lines = ["# Parameters", *(f"{name} = {value!r}" for name, value in parameters.items())]
    cell = new_code_cell("\n".join(lines), metadata={"tags": [INJECTED]})  # type: ignore[no-untyped-call]
    if not hasattr(content.cells[0] if content.cells else cell, "id"):
        del cell["id"]  # cells have ids since nbformat 4.5
    for tag, place, replaced in ((INJECTED, 0, 1), (PARAMETERS, 1, 0)):
        for index, other in enumerate(content.cells):
            if tag in other.metadata.get("tags", []):
                content.cells[index + place : index + place + replaced] = [cell]
                return
    content.cells.insert(0, cell)


def _output_name(params: Notebook, id: str) -> str:
    return params.output_name or f"{params.file_name.removesuffix('.ipynb')}-{id}.ipynb"


def _claim(job: Job[Notebook]) -> Path:
    return claims.path_of(job.setting("data_dir"), "notebook", job.key)


def _connection_file(job: Job[Notebook]) -> Path:
    return Path(job.setting("data_dir")).resolve() / "kernels" / f"{job.id}.json"
