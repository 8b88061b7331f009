"""Completions that the shell is offered when Tab is pressed; in bash, by bash itself."""

from __future__ import annotations

import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from click.shell_completion import CompletionItem, ShellComplete

import holdfast
from holdfast.cli._app import holdfast as group
from tests.support.servers import ServerProcess, wait_until

pytestmark = pytest.mark.slow


def offered(served: ServerProcess, arguments: list[str], incomplete: str) -> list[CompletionItem[str]]:
    complete = ShellComplete(group, {}, "holdfast", "_HOLDFAST_COMPLETE")
    return complete.get_completions(["--url", served.url, *arguments], incomplete)


def values(served: ServerProcess, arguments: list[str], incomplete: str) -> list[str]:
    return [item.value for item in offered(served, arguments, incomplete)]


def test_local_paths_are_the_shells_own(served: ServerProcess) -> None:
    for arguments in (["upload"], ["upload", "a"], ["download", "a", "--to"], ["backup"], ["serve", "--token-file"]):
        assert [item.type for item in offered(served, arguments, "x")] == ["file"], arguments
    assert [item.type for item in offered(served, ["serve", "--files-dir"], "x")] == ["dir"]


def test_a_verb_is_offered_the_processes_in_which_it_is_legal(served: ServerProcess, client: holdfast.Client) -> None:
    id = f"ended-{uuid.uuid4().hex}"
    client.processes.start("steps", id=id, to=1).wait()
    assert values(served, ["show"], id) == [id]
    for verb in ("pause", "resume", "cancel", "kill"):
        assert values(served, [verb], id) == []


def test_parameters_and_their_file_names(served: ServerProcess, client: holdfast.Client) -> None:
    name = f"{uuid.uuid4().hex}.csv"
    client.files.write(name, b"a\n")
    assert "file_name=" in values(served, ["start", "import-csv"], "")
    assert values(served, ["start", "import-csv"], "ta") == ["table="]
    assert values(served, ["start", "import-csv"], f"file_name={name[:8]}") == [f"file_name={name}"]
    assert values(served, ["start", "nowhere"], "a") == []
    assert values(served, ["upload", "a", "--to"], name[:8]) == [name]
    assert values(served, ["cat"], name[:8]) == [name]


def test_the_flags_of_a_server(served: ServerProcess) -> None:
    assert "--files-dir" in values(served, ["serve"], "--fi")
    assert "--max-running" in values(served, ["serve", "--port", "0"], "--max")
    assert "--data-dir" in values(served, ["backup", "x"], "--da")
    assert values(served, ["serve", "--port"], "") == []


def test_names_of_what_is_pending(served: ServerProcess, client: holdfast.Client, tmp_path: Path) -> None:
    path = tmp_path / f"{uuid.uuid4().hex}.bin"
    path.write_bytes(bytes(1 << 20))
    transfer = client.files.upload(path, limit=1 << 17)
    wait_until(lambda: transfer.progress.done > 0)
    transfer.pause()
    assert values(served, ["transfers"], path.name[:8]) == [path.name]
    transfer.cancel()


def test_bash_completes_behind_an_equals_sign_and_a_colon(served: ServerProcess, client: holdfast.Client) -> None:
    plain, spaced = f"{uuid.uuid4().hex}.csv", f"{uuid.uuid4().hex} of mine.csv"
    for name in (plain, spaced):
        client.files.write(name, b"a\n")
    tries = {
        "holdfast work": "work-types ",
        "holdfast start import-csv file_n": "file_name= ",
        f"holdfast start import-csv file_name={plain[:9]}": f"{plain} ",
        f"holdfast --url {served.url} download {plain[:9]}": f"{plain} ",
        f"holdfast download {spaced[:9]}": spaced.replace(" ", r"\ ") + " ",
        "holdfast serve --max-run": "--max-running ",
    }
    script = 'compopt() { :; }\neval "$(holdfast completion bash)"\n'
    for line in tries:
        script += f"COMP_LINE='{line}' COMP_POINT={len(line)} COMPREPLY=()\n_holdfast_completion holdfast\n"
        script += "printf '%s ' \"${COMPREPLY[@]}\"; echo\n"
    environment = {"HOLDFAST_URL": served.url, "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    run = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environment, timeout=120)
    assert run.stdout.splitlines() == [*tries.values()], run.stderr
