"""`%load_ext holdfast` in a real shell, against a real server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import holdfast
from holdfast.errors import HoldfastError, TransportError
from tests.sdk.holdfast.notebook._magics.conftest import COUNT, HELPER, LONG, Shell
from tests.support.servers import ServerProcess, wait_until

pytestmark = pytest.mark.slow


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
    assert "To start it again, use %%process count --new" in connected.said()
    connected.run("del double")  # the names that it uses need not be there to show what it started
    assert connected.run(COUNT).id == first.id
    assert "'double', which is not defined" in connected.refused(COUNT.replace("count", "count --new"))
    connected.run(HELPER)

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
        ("%%process x\n1 + 1", "the cell has no yield. Write `yield Progress"),
        ("%%process x\n\n", "the cell has no yield"),
        ("%%process x\nyield (", "line 2 of the cell is not valid here"),
        ("%%process x\nyield 1\nyield y", "line 3 of the cell uses 'y', which is not defined. Define it in the"),
        ("%%process x\nyield 1\nawait y", "line 3 of the cell is not valid here: 'await' outside"),
        ("%%process 1x\nyield", "'1x' is not a valid name"),
        ("%%process x to-do=1\nyield", "'to-do' is not a valid name"),
        ("%%process x job=1\nyield", "the cell uses 'job' for its process"),
        ("%%process x\ny = x\nyield", "the cell uses a variable 'x'"),
        ("%%process x to\nyield", "'to' is not NAME=VALUE"),
        ("%%process 'x\nyield", "%%process: No closing quotation"),
        ("%holdfast frob", "%holdfast frob: there is no such verb. Use one of ps, "),
        ("%holdfast log x --last many", "argument --last: invalid int value: 'many'"),
        ("%holdfast show nobody", "there is no process 'nobody'"),
        ("%holdfast show", "%holdfast show: ID is missing. Write %holdfast show ID\n"),
        (
            "%holdfast start --id x",
            "%holdfast start: WORK_TYPE is missing. Write %holdfast start WORK_TYPE [NAME=VALUE]... [--id ID], where",
        ),
        ("%%process\nyield", "%%process: NAME is missing. Write %%process NAME [PARAMETER=VALUE]... [--id ID] [--new]"),
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
        "NotSendable: once is not a generator function. Let it yield a Progress wherever it can be stopped",
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


def test_the_client_is_the_variable_and_connect_sets_it(
    shell: Shell, served: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOLDFAST_URL", served.url)
    assert shell.run("%holdfast ps") is shell.run("client.processes")
    assert shell.said().startswith(f"Connected to the Holdfast server of HOLDFAST_URL: {served.url}\n")
    assert shell.run("client.base_url") == served.url
    shell.run(f"%holdfast connect {served.url} --as there")
    assert shell.run("%holdfast") is shell.run("there")
    shell.run("client.close(); client = 5")
    assert shell.run("%holdfast") is shell.run("there")
    said = shell.refused("%holdfast connect")
    assert "the variable client is of type int, not a Holdfast client. Use another variable: " in said


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
        "holdfast._connect.connecting.Client", lambda *args, **kw: holdfast.Client(*args, **{**kw, "retries": 0})
    )
    said = shell.refused("%holdfast connect http://127.0.0.1:9")
    assert "Use %holdfast connect URL for another server" in said
    assert len(said.strip().splitlines()) == 1
    assert "client" not in shell.ipython.user_ns


def test_help_is_there_for_both(shell: Shell) -> None:
    for asked, words in (("%holdfast?", "%holdfast resume ID..."), ("%%process?", "--deadline SECONDS")):
        shell.run(asked)
        assert words in shell.said()


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
