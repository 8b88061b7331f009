"""JupyterLab, Notebook 7 and a headless Chromium: one Jupyter server for all tests, one browser for a file of them.

What it needs beside Python is a Chromium (`chromium-headless-shell` or `chromium` of Debian); without one these tests
fail, saying so. `tests/tools.sh` installs it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from playwright import sync_api as playwright_api

from tests.support.jupyter_server import end_holder
from tests.support.servers import PATIENCE, free_port, wait_until

CHROMIUM = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "chromium-browser"))), None)
WITHIN = PATIENCE * 1000  # milliseconds for what a page is to show


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)


class Jupyter:
    """A Jupyter server of its own on loopback. Everything that it keeps is in `folder`."""

    def __init__(self, folder: Path, *, base_url: str = "/", token: str = "", extension: bool = False) -> None:
        """`token`: with one, the pages log in by it, and are protected against other sites as usual.

        `extension`: with that of `holdfast[jupyter]`, whose server lives on: `end_shared_servers` ends it.
        """
        self.base_url, self.token = base_url, token
        self.root = folder / "root"
        self.root.mkdir(parents=True)
        self.port = 0
        self.url = ""
        self.log_path = folder / "log"
        self._environment = dict(os.environ)
        for name in ("HOME", "IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
            path = folder / name.lower()
            path.mkdir()
            self._environment[name] = str(path)
        self._environment["HOLDFAST_STATE_DIR"] = str(folder / "state")
        settings = folder / "jupyter_config_dir" / "labconfig" / "page_config.json"
        settings.parent.mkdir()
        settings.write_text(json.dumps({"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}))
        enable_extension(folder / "jupyter_config_dir", enabled=extension)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers, at the same port if it is started again."""
        while not self._begin():
            self.port = 0  # another program has taken it

    def _begin(self) -> bool:
        """Start it; return whether it answers. False means that it has ended."""
        self.port = self.port or free_port()
        self.url = f"http://127.0.0.1:{self.port}{self.base_url.rstrip('/')}"
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1"]
        command += [f"--port={self.port}", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={self.root}"]
        command += [f"--ServerApp.base_url={self.base_url}", f"--IdentityProvider.token={self.token}"]
        command += ["--ServerApp.password=", f"--ServerApp.disable_check_xsrf={not self.token}"]
        command += ["--ServerApp.allow_remote_access=True"]  # pages may use another name than that of loopback
        command += ["--LabApp.expose_app_in_browser=True", "--JupyterNotebookApp.expose_app_in_browser=True"]
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                command, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )
        process = self._process
        wait_until(lambda: self._answers() or process.poll() is not None, what="Jupyter answers or ends")
        if process.poll() is not None and "is already in use" not in self.log_path.read_text():
            pytest.fail(f"Jupyter has ended:\n{self.log_path.read_text()}")
        return process.poll() is None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/api/status?token={self.token}", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def stop(self) -> None:
        """End it and its kernels."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)


def enable_extension(folder: Path, *, enabled: bool = True) -> None:
    """Write a configuration of Jupyter with the extension of `holdfast[jupyter]`, or without it."""
    folder.mkdir(exist_ok=True)
    settings = {"ServerApp": {"jpserver_extensions": {"holdfast.jupyter": enabled}}}
    (folder / "jupyter_server_config.json").write_text(json.dumps(settings))


def end_shared_servers(folder: Path) -> None:
    """End the servers that the extension has started, whose state is somewhere below `folder`."""
    for lock in folder.rglob("shared/*/lock"):
        end_holder(lock)


class NotebookPage:
    """A notebook that is open in a page of the browser, with its kernel ready."""

    PANEL = "window.jupyterapp.shell.currentWidget"

    def __init__(self, page: Any) -> None:
        self.page = page
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self._note(str(error)))

    def _note(self, error: str) -> None:
        if "Canceled future for " not in error:  # JupyterLab's own: a restart ended the kernel that it had asked
            self.errors.append(error)

    def goto(self, url: str) -> None:
        """Open a notebook and wait for its kernel."""
        self.page.goto(url)
        self.ready()

    def open(self, name: str) -> None:
        """Open a notebook in a JupyterLab that is there, and wait for its kernel."""
        self.page.evaluate(
            "async (path) => { await window.jupyterapp.commands.execute('docmanager:open', {path}); }", name
        )
        self.ready()

    def close_all(self) -> None:
        """Close every notebook, without a question, and forget what the page has kept."""
        self.page.evaluate(
            """async () => {
                for (const widget of [...window.jupyterapp.shell.widgets('main')]) {
                    if (widget.context) await widget.context.save();
                    widget.dispose();
                }
                localStorage.clear();
            }"""
        )

    def ready(self) -> None:
        """Wait until the notebook can run (the idle mark comes too early)."""
        self.page.wait_for_function(f"() => window.jupyterapp && {self.PANEL} && {self.PANEL}.context")
        self.page.evaluate(
            f"""async () => {{
                await window.jupyterapp.restored;
                const context = {self.PANEL}.context;
                await context.ready;
                await context.sessionContext.ready;
                await context.sessionContext.session.kernel.info;
            }}"""
        )

    def save(self) -> None:
        """As Ctrl-S does: another page, or this one loaded again, then has the outputs."""
        self.page.evaluate(f"async () => {{ await {self.PANEL}.context.save(); }}")

    def reload(self) -> None:
        """As F5 does, once the notebook is saved."""
        self.save()
        self.page.reload()
        self.ready()

    def run_all(self) -> None:
        """Run every cell and wait for the last."""
        self.page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")

    def run(self, cell: int) -> None:
        """Run one cell and wait for it."""
        failures = self.page.evaluate(
            f"""async (cell) => {{
                const notebook = {self.PANEL}.content;
                notebook.activeCellIndex = cell;
                await window.jupyterapp.commands.execute('notebook:run-cell');
                const outputs = notebook.widgets[cell].model.outputs.toJSON();
                return outputs.filter((output) => output.output_type === 'error');
            }}""",
            cell,
        )
        assert not failures, "\n".join(failures[0]["traceback"])

    def begin(self, code: str) -> None:
        """Give the kernel something to do beside the cells, without waiting."""
        self.page.evaluate(
            f"(code) => {{ {self.PANEL}.context.sessionContext.session.kernel.requestExecute({{code}}); }}", code
        )

    def interrupt(self) -> None:
        """As the button does."""
        self.page.evaluate(f"async () => {{ await {self.PANEL}.context.sessionContext.session.kernel.interrupt(); }}")

    def value(self, expression: str) -> str:
        """Return the value of an expression in the kernel, as text."""
        found: dict[str, Any] = self.page.evaluate(
            f"""async (expression) => {{
                const kernel = {self.PANEL}.context.sessionContext.session.kernel;
                const code = "", user_expressions = {{x: expression}};
                const reply = await kernel.requestExecute({{code, user_expressions, silent: true}}).done;
                return reply.content.user_expressions.x;
            }}""",
            f"str({expression})",
        )
        assert found["status"] == "ok", found
        text: str = found["data"]["text/plain"]
        return str(json.loads(text)) if text.startswith('"') else text[1:-1]

    def begin_restart(self) -> None:
        """Restart the kernel without waiting for it."""
        self.page.evaluate(f"() => {{ {self.PANEL}.context.sessionContext.session.kernel.restart(); }}")

    def restart_kernel(self) -> None:
        """As the button does, once it is confirmed."""
        self.page.evaluate(f"async () => {{ await {self.PANEL}.context.sessionContext.session.kernel.restart(); }}")
        self.ready()

    def drop(self, cell: int, *paths: Path) -> None:
        """Drop files and folders of this machine on the box of a cell, as a person does by hand."""
        target = self.output(cell).locator(".drop")
        target.scroll_into_view_if_needed()
        frame = target.bounding_box()
        assert frame is not None
        session = self.page.context.new_cdp_session(self.page)
        data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
        where = {"x": frame["x"] + 8, "y": frame["y"] + frame["height"] / 2, "data": data}
        for event in ("dragEnter", "dragOver", "drop"):
            session.send("Input.dispatchDragEvent", {"type": event, **where})
        session.detach()

    def theme(self, name: str) -> None:
        """`JupyterLab Light` or `JupyterLab Dark`."""
        wanted = self.page.locator(f'body[data-jp-theme-light="{"true" if "Light" in name else "false"}"]')
        if not wanted.count():
            self.page.evaluate(
                "async (theme) => { await window.jupyterapp.commands.execute('apputils:change-theme', {theme}); }", name
            )
            wanted.wait_for(state="attached")

    def shoot(self, *, whole: bool = False, **cells: int) -> None:
        """Keep pictures of what cells show (`whole`: with their input), light and dark: `shoot(paused=1, failed=2)`.

        `HOLDFAST_PICTURES` is the folder, for people to look at; without it nothing is kept.
        """
        if not (folder := os.environ.get("HOLDFAST_PICTURES")):
            return
        for theme in ("Light", "Dark"):
            self.theme(f"JupyterLab {theme}")
            for name, cell in cells.items():
                shown = self.output(cell).locator(".jupyter-widgets, .holdfast-upload").first
                picture = (self.cell(cell) if whole else shown).screenshot(animations="disabled")
                (Path(folder) / f"{name.replace('_', '-')}-{theme.lower()}.png").write_bytes(picture)

    def cell(self, cell: int) -> Any:
        """A cell, with its input."""
        return self.page.locator(".jp-Notebook .jp-Cell").nth(cell)

    def output(self, cell: int) -> Any:
        """Return the output of a cell."""
        return self.cell(cell).locator(".jp-OutputArea-output")


@pytest.fixture(scope="session")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jupyter]:
    """The one Jupyter server of all tests."""
    folder = tmp_path_factory.mktemp("jupyter")
    server = Jupyter(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        end_shared_servers(folder)


@pytest.fixture(scope="module")
def playwright() -> Iterator[Any]:
    """Playwright, for a file of tests: it keeps a loop running, which other files must not see."""
    if CHROMIUM is None:
        pytest.fail("no Chromium here: tests/tools.sh installs it")
    with playwright_api.sync_playwright() as playwright:
        yield playwright


LOOPBACK_ONLY = "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"


def launch(playwright: Any, addresses: str = LOOPBACK_ONLY) -> Any:
    """Start a browser. `addresses` are rules of Chromium: which names and ports lead where."""
    args = ["--no-sandbox", f"--host-resolver-rules={addresses}"]
    return playwright.chromium.launch(executable_path=CHROMIUM, args=args)


@pytest.fixture(scope="module")
def browser(playwright: Any) -> Iterator[Any]:
    """The one browser of a file of tests."""
    browser = launch(playwright)
    yield browser
    browser.close()


def new_page(browser: Any) -> Any:
    """A page with a storage of its own."""
    context = browser.new_context(viewport={"width": 1000, "height": 800}, accept_downloads=True)
    context.set_default_timeout(WITHIN)
    return context.new_page()


@pytest.fixture(scope="module")
def lab(jupyter: Jupyter, browser: Any) -> Iterator[NotebookPage]:
    """The JupyterLab that the tests of a file open their notebooks in: loading it takes longer than most tests."""
    page = NotebookPage(new_page(browser))
    page.page.goto(f"{jupyter.url}/lab?reset")
    page.page.wait_for_function("() => window.jupyterapp")
    page.page.evaluate(
        """async () => {
            await window.jupyterapp.restored;
            window.jupyterapp.shell.collapseLeft();
        }"""
    )
    yield page
    page.page.context.close()


def write_notebook(path: Path, *cells: str) -> None:
    """Write a notebook of the given cells."""
    sources = [nbformat.v4.new_code_cell(cell) for cell in cells]
    kernel = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(nbformat.v4.new_notebook(cells=sources, metadata={"kernelspec": kernel}), path)


def end_kernels(jupyter: Jupyter) -> None:
    """End all kernels of a Jupyter server."""
    with urllib.request.urlopen(f"{jupyter.url}/api/kernels") as answer:
        kernels = json.load(answer)
    for kernel in kernels:
        urllib.request.urlopen(urllib.request.Request(f"{jupyter.url}/api/kernels/{kernel['id']}", method="DELETE"))


@pytest.fixture
def open_notebook(
    jupyter: Jupyter, browser: Any, lab: NotebookPage, request: pytest.FixtureRequest
) -> Iterator[Callable[..., NotebookPage]]:
    """Opens a notebook of the given cells in the `lab`; with `app`, in another page: "doc/tree" or "notebooks"."""
    others: list[NotebookPage] = []
    path = jupyter.root / f"{request.node.name}.ipynb"

    def open(*cells: str, app: str = "") -> NotebookPage:
        if cells:
            write_notebook(path, *cells)
        if not app:
            lab.open(path.name)
            return lab
        others.append(NotebookPage(new_page(browser)))
        others[-1].goto(f"{jupyter.url}/{app}/{path.name}")
        return others[-1]

    yield open
    for page in others:
        page.page.context.close()
    lab.close_all()
    end_kernels(jupyter)
    # Changing the theme back and forth, JupyterLab 4.6 sometimes takes a style sheet out twice.
    errors, lab.errors = lab.errors, []
    assert errors == [] or "HOLDFAST_PICTURES" in os.environ
