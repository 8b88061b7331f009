"""In a pipe one record is one whole line; on a terminal the note gives way first, never id or state."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

import holdfast
from holdfast.cli._context import Exit
from holdfast.cli._printing._output import escaped
from tests.support.cli_shell import COMMAND, Shell, on_terminal
from tests.support.servers import ServerProcess, wait_until

pytestmark = pytest.mark.slow

LONG = "x-" + 60 * "long-"


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch, shell: Shell) -> None:
    monkeypatch.setenv("COLUMNS", "40")


@pytest.fixture
def process(client: holdfast.Client) -> Iterator[holdfast.Process]:
    """A paused one with a note, a progress and an id that fills a terminal."""
    id = f"{LONG[:90]}{uuid.uuid4().hex}"
    process = client.processes.start("steps", id=id, to=4, fail="a\ttab\nand a line", labels={"team": "a b"})
    process.wait(60)
    yield process
    process.forget()


def test_a_list_in_a_pipe_is_whole(shell: Shell, process: holdfast.Process) -> None:
    [line] = [line for line in shell("ps").splitlines() if line.startswith(process.id)]
    id, work_type, state, done, age, note = line.split("\t")
    assert (id, work_type, state, done) == (process.id, "steps", "failed", "100%")
    assert age.endswith("s")
    assert note == r"a\ttab\nand a line"
    assert "\x1b" not in shell.out


def test_one_process_in_a_pipe_is_a_line_a_field_and_json_where_it_has_structure(
    shell: Shell, process: holdfast.Process, client: holdfast.Client
) -> None:
    shown = dict(line.split("\t", 1) for line in shell("show", process.id).splitlines())
    assert (shown["id"], shown["state"]) == (process.id, "failed")
    assert shown["error"] == r"WorkError: a\ttab\nand a line"
    assert shown["labels"] == "'team=a b'"
    other = client.processes.start("steps", to=2).wait(60)
    result = dict(line.split("\t", 1) for line in shell("show", other.id).splitlines())["result"]
    assert json.loads(result) == {"steps": 2}


def test_a_long_name_is_one_line_on_a_terminal_and_in_a_pipe(
    shell: Shell, client: holdfast.Client, served: ServerProcess
) -> None:
    name = f"{uuid.uuid4().hex}/" + 15 * "a-long-name "  # more than a terminal is wide
    name = name.strip()
    client.files.write(name, b"12345")
    [line] = shell("ls", name[:20]).splitlines()
    assert line.split("\t")[0::2] == ["5", name]
    assert name in "\n".join(on_terminal("--url", served.url, "ls", name[:20]))
    client.files.delete(name)


@pytest.mark.parametrize("columns", [20, 40, 80, 100, 150])
def test_on_a_terminal_id_and_state_are_always_whole(
    client: holdfast.Client, served: ServerProcess, columns: int
) -> None:
    label = uuid.uuid4().hex
    id = f"{uuid.uuid4().hex}-wide"
    client.processes.start("steps", id=id, to=1, fail="note " * 40, labels={"of": label}).wait(60)
    [_, line] = on_terminal("--url", served.url, "ps", "--label", f"of={label}", columns=columns)
    assert line.split()[0] == id
    assert "failed" in line.split()
    if columns > 60:
        assert len(line) <= columns
    assert ("…" in line) == (columns > 75), "the note is cut, or left out"


@pytest.mark.parametrize("command", [("ps",), ("ls",), ("work-types",), ("transfers",)])
def test_lists_are_json_lines(shell: Shell, client: holdfast.Client, command: tuple[str, ...]) -> None:
    client.files.write(f"{uuid.uuid4().hex}", b"1")
    client.processes.start("steps", to=1)
    assert all(isinstance(record, dict) for record in shell.lines(*command))
    assert all(isinstance(json.loads(line), dict) for line in shell("--json", *command).splitlines())


@pytest.mark.parametrize("arguments", [["nonsense"], ["ps", "--limit", "x"], ["start"], ["cancel"], ["--nonsense"]])
def test_a_wrong_command_line_is_json_too(shell: Shell, arguments: list[str]) -> None:
    shell(*arguments, "--json", code=2)
    problem = json.loads(shell.err)
    assert problem["exit_code"] == 2
    assert problem["message"]
    assert shell.out == ""


def test_one_is_counted_as_one(shell: Shell, client: holdfast.Client) -> None:
    name = f"{uuid.uuid4().hex}.csv"
    client.files.write(name, b"a,b\n1,2\n")
    id = shell.json("start", "import-csv", f"file_name={name}", f"table=t{uuid.uuid4().hex}", "-w")["id"]
    assert "100% 1 row\n" in shell("show", id)


def test_control_characters_never_break_a_line() -> None:
    assert escaped("a\tb\nc\rd\x1b[31m\x85\u2028é\\") == r"a\tb\nc\rd\x1b[31m\x85\u2028é" + "\\"


def test_work_types_are_read_beside_their_names_on_a_terminal(served: ServerProcess) -> None:
    lines = on_terminal("--url", served.url, "work-types")
    assert all(len(line) <= 80 for line in lines)
    at = next(number for number, line in enumerate(lines) if line.startswith("import-csv "))
    entry = [line[len("import-csv ") :].strip() for line in lines[at : at + 5]]
    assert entry[0].startswith("file_name table [batch_rows]")
    assert "Load a CSV file from the files directory into a table" in " ".join(entry)


def test_paths_of_any_bytes_go_up_and_down_and_are_kept(
    served: ServerProcess, client: holdfast.Client, tmp_path: Path, shell: Shell
) -> None:
    root, prefix = Path(os.fsdecode(os.fsencode(tmp_path) + b"/d\xff")), uuid.uuid4().hex
    root.mkdir()
    (root / "a").write_bytes(bytes(1 << 20))
    Path(os.fsdecode(os.fsencode(root) + b"/\xfe")).write_text("x")
    result = shell.json("upload", str(root), "--to", prefix)
    assert [file["name"] for file in result["sent"]] == [f"{prefix}/a"]
    assert result["left_out"] == ["\udcfe"]
    assert shell.json("download", f"{prefix}/a", "--to", str(root / "b")) == str(root / "b")
    shell.lines("download", f"{prefix}/", "--to", str(root / "c"))
    assert (root / "b").read_bytes() == (root / "c" / "a").read_bytes() == bytes(1 << 20)
    transfer = client.files.upload(root / "a", f"{prefix}/slow", limit=1 << 17)
    wait_until(lambda: transfer.progress.done > 0)
    transfer.pause()
    (record,) = client.transfers.pending()
    assert record.path == str(root / "a")
    assert r"\udcff" in shell("transfers")
    assert shell.json("transfers")["path"] == record.path
    assert client.transfers.resume(record).wait(60).size == 1 << 20
    shell("upload", str(root), code=Exit.FAILED)
    assert "is not valid UTF-8" in shell.err


def test_closed_and_narrow_outputs_are_written_to_as_well_as_can_be(
    served: ServerProcess, client: holdfast.Client
) -> None:
    name = f"{uuid.uuid4().hex}-\u00e9\U0001f600"
    client.files.write(name, b"x")
    command = shlex.join([*COMMAND, "--url", served.url, "ls", name])

    def said(line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", line],
            capture_output=True,
            text=True,
            timeout=120,
            env=os.environ | {"PYTHONIOENCODING": "ascii"},
        )

    assert r"\xe9\U0001f600" in said(command).stdout
    assert json.loads(said(f"{command} --json").stdout)["name"] == name
    for closed in (">&-", "2>&-", ">&- 2>&-"):
        done = said(f"{command} {closed}")
        assert (done.returncode, done.stderr) == (0, "")
    full = said(f"{command} >/dev/full")
    assert (full.returncode, full.stderr) == (1, "holdfast: No space left on device\n")
