"""The verbs of `%holdfast`: what they return and print, their help and their completion."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from holdfast.notebook._magics._verbs import usage
from tests.sdk.holdfast.notebook._magics.conftest import COUNT, HELPER, LONG, Shell
from tests.support.servers import ServerProcess, wait_until

pytestmark = pytest.mark.slow


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


def test_the_page_lists_the_verbs_as_the_help_does() -> None:
    page = (Path(__file__).parents[5] / "docs/notebooks.md").read_text(encoding="utf-8")
    assert textwrap.dedent(usage()) in page
