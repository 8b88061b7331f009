"""Fixtures for the magics: an IPython, and a server that takes code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import holdfast
from holdfast.wire import LIVE
from tests.support.servers import ServerProcess

COUNT = """%%process count to=30 word="a b"
import time
for i in range((job.checkpoint or {"i": 0})["i"], to):
    time.sleep(0.01)
    job.log(f"{word} {double(i)}")
    yield Progress(i + 1, to, {"i": i + 1})
return to
"""
HELPER = "def double(i):\n    return 2 * i"
LONG = """%%process long
import time
for i in range(10_000):
    time.sleep(0.01)
    yield Progress(i, 10_000, {'i': i})"""


class Shell:
    """An IPython without a terminal, in a notebook's place."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        config = Config()
        config.HistoryManager.enabled = False
        self.ipython = InteractiveShell.instance(config=config)
        self.capsys = capsys

    def run(self, cell: str) -> Any:
        """The value of a cell that works."""
        result = self.ipython.run_cell(cell)
        assert result.success, self.capsys.readouterr()
        return result.result

    def refused(self, cell: str) -> str:
        """Return the message of a cell that is refused."""
        self.capsys.readouterr()
        assert not self.ipython.run_cell(cell).success
        said = self.capsys.readouterr()
        return said.err + said.out

    def said(self) -> str:
        """Return the text that was printed since the last call."""
        return self.capsys.readouterr().out

    def complete(self, line: str) -> list[str]:
        """As a kernel does for its front end."""
        with provisionalcompleter():
            return [found.text for found in self.ipython.Completer.completions(line, len(line))]


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Shell]:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.delenv("HOLDFAST_URL", raising=False)
    monkeypatch.delenv("HOLDFAST_TOKEN", raising=False)
    shell = Shell(capsys)
    shell.run("%load_ext holdfast")
    yield shell
    for value in shell.ipython.user_ns.values():
        if isinstance(value, holdfast.Client):
            value.close()
    InteractiveShell.clear_instance()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    server = ServerProcess(tmp_path_factory.mktemp("served"), ["--allow-code", "--max-running", "16"])
    server.start()
    yield server
    server.end()


@pytest.fixture
def connected(shell: Shell, served: ServerProcess) -> Iterator[Shell]:
    """A shell whose client is one of the shared server."""
    shell.run(f"import holdfast\nclient = holdfast.Client({served.url!r})")
    yield shell
    with holdfast.Client(served.url) as client:
        client.processes.cancel_all(state=LIVE)
        for process in list(client.processes.list()):
            process.wait(20).forget()
