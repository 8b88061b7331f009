"""What comes once goes up as it comes, what comes down may go to the standard output, and whole folders may go."""

from __future__ import annotations

import os
import signal
import subprocess
import uuid
from pathlib import Path

import pytest

import holdfast
from holdfast.cli._context import Exit
from tests.support.cli_shell import COMMAND, Shell, Started
from tests.support.proxy import Fault
from tests.support.servers import ServerProcess, wait_until

pytestmark = pytest.mark.slow

DATA = bytes(range(256)) * 12_000


@pytest.fixture
def name() -> str:
    return f"{uuid.uuid4().hex}.bin"


@pytest.mark.parametrize(
    "line",
    [
        "cat {file} | {holdfast} upload - --to {name}",
        "cat {file} | {holdfast} upload /dev/stdin --to {name}",
        "{holdfast} upload - --to {name} < {file}",
        "{holdfast} upload /dev/stdin --to {name} < {file}",
        "{holdfast} upload <(cat {file}) --to {name}",
        "{holdfast} upload /dev/fd/5 --to {name} 5< <(cat {file})",
        "mkfifo fifo; cat {file} > fifo & {holdfast} upload fifo --to {name}",
        "mkfifo {name}; cat {file} > {name} & {holdfast} upload {name}",
        "mkfifo {name}; cat {file} > {name} & {holdfast} upload {name} --to /",
    ],
)
def test_what_comes_once_is_sent_as_it_comes(line: str, served: ServerProcess, tmp_path: Path, name: str) -> None:
    (tmp_path / "source").write_bytes(DATA)
    command = line.format(file="source", name=name, holdfast=f"{' '.join(COMMAND)} --url {served.url}")
    subprocess.run(["bash", "-ec", command], cwd=tmp_path, check=True, timeout=120)
    assert (served.files_dir / name).read_bytes() == DATA
    assert not list((tmp_path / "state").rglob("*.json")), "nobody else could go on with it"


def test_the_sdk_takes_a_fifo_for_what_it_is(client: holdfast.Client, tmp_path: Path, name: str) -> None:
    fifo = tmp_path / name
    os.mkfifo(fifo)
    transfer = client.files.upload(fifo)
    with fifo.open("wb") as file:
        file.write(DATA)
    assert transfer.wait(60).size == len(DATA)
    with pytest.raises(ValueError, match="name="):
        client.files.upload("/dev/null")


def test_what_has_no_name_of_its_own_needs_one(shell: Shell) -> None:
    for arguments in (["-"], ["/dev/null"], ["/dev/null", "--to", "folder/"], ["-", "/dev/null", "--to", "x"]):
        shell("upload", *arguments, code=Exit.USAGE)
        assert "needs a name: --to NAME" in shell.err


def test_ctrl_c_ends_waiting_for_a_pipe_into_which_nobody_writes(
    started: Started, client: holdfast.Client, tmp_path: Path, name: str
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    child = started("upload", str(fifo), "--to", name)
    wait_until(lambda: any(upload.name == name for upload in client.files.uploads()))
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=60)
    assert child.returncode == Exit.INTERRUPTED
    assert b"given up" in said
    assert all(upload.name != name for upload in client.files.uploads())


def run(served: ServerProcess, *arguments: str, url: str = "") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*COMMAND, "--url", url or served.url, *arguments], capture_output=True, timeout=120)


def test_files_go_to_the_standard_output_whole_over_cuts(
    served: ServerProcess, client: holdfast.Client, name: str, faulty: object, shell: Shell
) -> None:
    client.files.write(name, DATA)
    assert run(served, "cat", name, name).stdout == DATA + DATA
    assert run(served, "download", name, "--to", "-", "--limit", "100M").stdout == DATA
    proxy = faulty(Fault(when=b"GET /v1/files/", cut_down=100_000))  # type: ignore[operator]
    cut = run(served, "cat", name, url=proxy.url)
    assert cut.stdout == DATA
    assert b"retrying in" in cut.stderr
    assert proxy.happened == 1
    shell("cat", "nowhere", code=Exit.NOT_FOUND)
    assert "there is no file 'nowhere'" in shell.err
    for arguments in (
        ["cat", name, "--json"],
        ["download", name, "--to", "-", "--json"],
        ["download", "x/", "--to", "-"],
    ):
        shell(*arguments, code=Exit.USAGE)


def test_a_reader_that_has_enough_is_no_error(served: ServerProcess, client: holdfast.Client, name: str) -> None:
    client.files.write(name, DATA)
    for command in (f"cat {name}", "ls --json", "ls"):
        line = f"set -o pipefail; {' '.join(COMMAND)} --url {served.url} {command} | head -c 10"
        done = subprocess.run(["bash", "-c", line], capture_output=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, b""), command


def test_a_folder_is_removed_by_rm_r_and_not_by_mistake(shell: Shell, client: holdfast.Client) -> None:
    folder = uuid.uuid4().hex
    names = [f"{folder}/{name}" for name in ("a", "b/c", "b/d")]
    for each in (*names, f"{folder}-beside"):
        client.files.write(each, b"x")
    shell("rm", folder, code=Exit.REFUSED)
    assert f"holdfast rm -r {folder}" in shell.err
    for nothing in ("", "/", "//"):
        shell("rm", "-r", nothing, code=Exit.USAGE)
    shell("rm", "-r", "nowhere", f"{folder}/b", code=Exit.NOT_FOUND)
    assert [file.name for file in client.files.list(folder)] == [f"{folder}-beside", f"{folder}/a"]
    assert [record["name"] for record in shell.lines("rm", "-r", f"{folder}/")] == [f"{folder}/a"]
    shell("rm", "nowhere", f"{folder}-beside", code=Exit.NOT_FOUND)
    assert [*client.files.list(folder)] == []
