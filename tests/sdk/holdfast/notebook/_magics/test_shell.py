"""`%load_ext holdfast` in a real shell, against a real server."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import holdfast
from holdfast.errors import HoldfastError, TransportError
from holdfast.notebook._magics._verbs import usage
from holdfast.wire import LIVE
from tests.support.servers import ServerProcess, wait_until

pytestmark = pytest.mark.slow

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
        """What is said of a cell that does not."""
        self.capsys.readouterr()
        assert not self.ipython.run_cell(cell).success
        said = self.capsys.readouterr()
        return said.err + said.out

    def said(self) -> str:
        """What was printed since the last time."""
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


def test_a_cell_runs_on_the_server_with_what_it_uses_of_the_notebook(connected: Shell) -> None:
    connected.run(HELPER)
    process = connected.run(COUNT)
    assert isinstance(process, holdfast.Process)
    assert process.result(30) == 30
    assert [line.message for line in process.log()][:3] == ["a b 0", "a b 2", "a b 4"]
    assert connected.run("count.state") == "succeeded"
    assert "Progress" not in connected.ipython.user_ns, "the namespace stays as it was"


def test_its_yields_are_checkpoints(connected: Shell) -> None:
    process = connected.run(LONG.replace("range(10_000)", "range((job.checkpoint or {'i': 0})['i'], 10_000)"))
    wait_until(lambda: (process.refresh().progress.done or 0) > 5)
    connected.run("%holdfast pause {long.id}")
    process.wait(20, until="paused")
    before = process.progress.done
    connected.run("%holdfast resume {long.id}")
    wait_until(lambda: (process.refresh().progress.done or 0) > before)
    assert process.info.attempt == 2
    assert connected.run("%holdfast cancel {long.id}").wait(20).state == "cancelled"


def test_the_same_cell_is_the_same_process_also_in_a_new_kernel(connected: Shell) -> None:
    connected.run(HELPER)
    first = connected.run(COUNT)
    first.wait(30)
    connected.said()
    assert connected.run(COUNT).id == first.id
    assert f"was started before, as {first.id}" in connected.said()
    # In another kernel the function is another object in another file: its pickle differs, the cell does not.
    connected.run(HELPER.replace("2 * i", "i + i"))
    assert connected.run(COUNT).id == first.id
    assert "--new starts it again" in connected.said()

    again = connected.run(COUNT.replace("count", "count --new"))
    changed = connected.run(COUNT.replace("to=30", "to=3"))
    assert len({first.id, again.id, changed.id}) == 3
    assert (again.result(30), changed.result(30)) == (30, 3)


def test_an_id_that_belongs_to_another_cell_is_refused(connected: Shell) -> None:
    connected.run(HELPER)
    connected.run(COUNT.replace("count", "count --id mine --label for=test")).wait(30)
    assert connected.run("client.processes.get('mine').info.labels['for']") == "test"
    assert "'mine'" in connected.refused(COUNT.replace("count", "other --id mine"))


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("%%process x\n1 + 1", "the cell has no yield: it has to yield Progress"),
        ("%%process x\n\n", "the cell has no yield"),
        ("%%process x\nyield (", "line 2 of the cell is not Python"),
        ("%%process x\nyield 1\nawait y", "line 3 of the cell is not Python that can be sent: 'await' outside"),
        ("%%process 1x\nyield", "'1x' can't be a name"),
        ("%%process x to-do=1\nyield", "'to-do' can't be a name"),
        ("%%process x job=1\nyield", "'job' is what the cell knows its process by"),
        ("%%process x\ny = x\nyield", "the cell uses a variable 'x'"),
        ("%%process x to\nyield", "'to' is not NAME=VALUE"),
        ("%%process 'x\nyield", "%%process: No closing quotation"),
        ("%holdfast frob", "%holdfast frob: there is no such verb; there are ps, "),
        ("%holdfast log x --last many", "argument --last: invalid int value: 'many'"),
        ("%holdfast show nobody", "there is no process 'nobody'"),
        ("%holdfast show", "%holdfast show: the following arguments are required: ID"),
        ("%holdfast start nothing", "'nothing' is no work type; there are code, "),
        ("%holdfast connect ftp://x", "ftp://x"),
    ],
)
def test_what_is_wrong_is_one_sentence(connected: Shell, cell: str, words: str) -> None:
    said = connected.refused(cell)
    assert words in said
    assert said.startswith("UsageError: ")
    assert len(said.strip().splitlines()) == 1


def test_code_that_can_not_be_pickled_is_one_sentence(connected: Shell) -> None:
    connected.run("import threading; lock = threading.Lock()")
    said = connected.refused("%%process x\nlock.acquire()\nyield")
    assert "x can't be sent: TypeError: cannot pickle" in said
    assert len(said.strip().splitlines()) == 1


def test_another_python_is_one_sentence(connected: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast._client.sent_code.PYTHON", "3.9")
    said = connected.refused("%%process x\nyield")
    assert "pickled by Python 3.9" in said
    assert len(said.strip().splitlines()) == 1


def test_a_server_that_takes_no_code_says_how_it_would(
    shell: Shell, spawn_server: Callable[..., ServerProcess]
) -> None:
    shell.run(f"%holdfast connect {spawn_server().url}")
    said = shell.refused("%%process x\nyield")
    assert "--allow-code" in said
    assert len(said.strip().splitlines()) == 1


def test_errors_of_the_client_show_the_persons_own_lines_alone(connected: Shell) -> None:
    said = connected.refused("@client.process\ndef once(job):\n    return 1\n\nonce()")
    assert said.splitlines() == [
        "Cell In[1], line 5: once()",
        "NotSendable: once is not a generator function: "
        "it has to yield a Progress at every point where it may be stopped",
    ]
    (where, what) = connected.refused("a = 5\nclient.processes.get('nobody')").splitlines()
    assert (where, what.partition(":")[0]) == ("Cell In[1], line 2: client.processes.get('nobody')", "NotFound")
    path = str(Path(__file__).resolve())
    with pytest.raises(HoldfastError) as raised:
        raise HoldfastError("no")
    assert raised.value._render_traceback_()[0].startswith(f"File {path}, line ")


def test_a_decorated_generator_shows_its_process_as_the_last_line(connected: Shell) -> None:
    cell = "@client.process\ndef once(job, n):\n    yield Progress(1, 1)\n    return n\n\nonce(7)"
    process = connected.run(f"from holdfast.work import Progress\n{cell}")
    assert process.result(30) == 7
    data, _ = connected.ipython.display_formatter.format(process)
    assert "succeeded" in data["text/plain"]
    assert "succeeded" in data["text/html"]


def test_lines_give_what_the_client_gives(connected: Shell, served: ServerProcess) -> None:
    (served.files_dir / "here.csv").write_text("a,b\n1,2\n")
    client = connected.run("client")
    assert connected.run("%holdfast") is client
    assert connected.run("%holdfast ps") is client.processes
    assert connected.run("%holdfast ls") is client.files
    process = connected.run("%holdfast start import-csv file_name=here.csv --id mine table=here batch_rows=7")
    assert process.result(30)["rows"] == 1
    assert process.info.params["batch_rows"] == 7
    assert connected.run("p = %holdfast show mine\np.state") == "succeeded"
    connected.run(LONG)
    connected.run(LONG.replace("process long", "process other"))
    assert [each.id for each in connected.run("%holdfast cancel {long.id} {other.id}")] == [
        connected.run("long.id"),
        connected.run("other.id"),
    ]
    connected.run(HELPER)
    connected.run(COUNT).wait(30)
    connected.said()
    assert connected.run("%holdfast log {count.id} --last 2") is None
    assert [line.partition("  ")[2] for line in connected.said().splitlines()] == ["a b 56", "a b 58"]
    connected.run("%holdfast work-types")
    said = connected.said()
    assert "import-csv  file_name table [batch_rows]" in said
    assert "\n    Load a CSV file" in said


def test_what_does_not_yield_can_be_killed(connected: Shell) -> None:
    process = connected.run("%%process stuck\nimport time\nyield Progress(0, 1)\ntime.sleep(600)\nyield")
    wait_until(lambda: process.refresh().progress.done == 0)
    connected.run("%holdfast kill {stuck.id}")
    assert process.wait(30).state == "failed"


def test_the_client_is_the_variable_and_connect_sets_it(
    shell: Shell, served: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOLDFAST_URL", served.url)
    assert shell.run("%holdfast ps") is shell.run("client.processes")
    assert shell.run("client.base_url") == served.url
    shell.run(f"%holdfast connect {served.url} --as there")
    assert shell.run("%holdfast") is shell.run("there")
    shell.run("client.close(); client = 5")
    assert shell.run("%holdfast") is shell.run("there")
    said = shell.refused("%holdfast connect")
    assert "the variable client is a int and not a client of Holdfast: %holdfast connect URL --as NAME" in said


def test_an_async_client_will_do(shell: Shell, served: ServerProcess) -> None:
    shell.run(f"import holdfast\nclient = holdfast.AsyncClient({served.url!r})")
    mine = shell.run("%holdfast")
    try:
        assert isinstance(mine, holdfast.Client)
        assert mine.base_url == served.url
        assert shell.run("%holdfast") is mine
    finally:
        mine.close()


def test_a_server_that_is_not_there_is_one_sentence(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "holdfast.notebook._magics._shell.Client", lambda *args, **kw: holdfast.Client(*args, retries=0, **kw)
    )
    said = shell.refused("%holdfast connect http://127.0.0.1:9")
    assert "%holdfast connect URL names another server" in said
    assert len(said.strip().splitlines()) == 1
    assert "client" not in shell.ipython.user_ns


def test_verbs_ids_work_types_and_parameters_are_completed(connected: Shell, served: ServerProcess) -> None:
    long = connected.run(LONG).id
    wait_until(lambda: connected.run("client").processes.get(long).state == "running")
    connected.run("client").processes.start("manifest", id="done").wait(20)
    assert connected.complete("%holdfast pa") == ["pause"]
    assert {"ps", "work-types", "connect"} <= set(connected.complete("%holdfast "))
    assert set(connected.complete("%holdfast show ")) == {long, "done"}
    assert connected.complete("%holdfast pause ") == [long]  # what has ended can't be paused
    assert long not in connected.complete(f"%holdfast pause {long} ")  # it is there already
    assert not {long, "done"} & set(connected.complete("%holdfast resume "))
    assert connected.complete("%holdfast start im") == ["import-csv"]
    assert connected.complete("%holdfast start import-csv fi") == ["file_name="]
    assert connected.complete("%holdfast log x --l") == ["--last"]
    assert "--new" in connected.complete("%%process x --")
    connected.run("there = client\nclient = holdfast.Client('http://127.0.0.1:9')")
    assert connected.complete("%holdfast show don") == []
    connected.run("client.close()\ndel client")


def test_completion_without_a_server_says_nothing(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_URL", "no url")
    shell.complete("%holdfast show x")
    assert shell.capsys.readouterr() == ("", "")


def test_help_is_there_for_both(shell: Shell) -> None:
    for asked, words in (("%holdfast?", "%holdfast resume ID..."), ("%%process?", "--deadline SECONDS")):
        shell.run(asked)
        assert words in shell.said()


def test_the_page_lists_the_verbs_as_the_help_does() -> None:
    page = (Path(__file__).parents[5] / "docs/notebooks.md").read_text(encoding="utf-8")
    assert textwrap.dedent(usage()) in page


def test_it_can_be_unloaded_and_loaded_again(shell: Shell) -> None:
    shell.run("%unload_ext holdfast")
    assert "not found" in shell.refused("%holdfast ps")
    assert "connect" not in shell.complete("%holdfast con")
    shell.run("%load_ext holdfast\n%reload_ext holdfast")
    assert shell.complete("%holdfast con") == ["connect"]


def test_importing_holdfast_loads_no_ipython() -> None:
    code = "import sys, holdfast; holdfast.Client; holdfast.load_ipython_extension; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "holdfast._sync.client" in loaded
    assert not {"IPython", "ipywidgets", "traitlets", "cloudpickle"} & set(loaded)


def test_not_sendable_is_a_type_error_and_no_lost_connection() -> None:
    assert issubclass(holdfast.errors.NotSendable, TypeError)
    assert not issubclass(holdfast.errors.NotSendable, TransportError)
