"""Files and folders go up and down, are listed and removed."""

from __future__ import annotations

import os
import random
import subprocess
import uuid
from pathlib import Path

import pytest

import holdfast
from holdfast.cli._context import Exit
from tests.support.cli_shell import COMMAND, Shell
from tests.support.servers import ServerProcess

MIB = 1 << 20
pytestmark = pytest.mark.slow


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / f"{uuid.uuid4().hex}.bin"
    path.write_bytes(random.Random(9).randbytes(3 * MIB))
    return path


def test_files_go_up_and_down(shell: Shell, file: Path, tmp_path: Path) -> None:
    assert shell.json("upload", str(file))["size"] == 3 * MIB
    shell("upload", str(file), "--to", "other.bin", "--overwrite", "--limit", "50M", "--segments", "2")
    assert file.name in shell("ls")
    assert [f["name"] for f in shell.lines("ls", file.name)] == [file.name]
    assert shell.json("download", file.name, "--to", str(tmp_path / "down")) == str(tmp_path / "down")
    assert (tmp_path / "down").read_bytes() == file.read_bytes()
    (tmp_path / "down").write_text("mine")
    shell("download", file.name, "--to", str(tmp_path / "down"), code=Exit.REFUSED)
    assert "--overwrite" in shell.err or "overwrite=True" in shell.err
    shell("rm", file.name, "other.bin")
    shell("rm", file.name, code=Exit.NOT_FOUND)
    assert "holdfast ls" in shell.err, "advice is in the terms of the command"
    assert "GET" not in shell.err
    shell("upload", str(tmp_path / "nowhere"), code=Exit.NOT_FOUND)
    shell("upload", "-", code=Exit.USAGE)
    shell("upload", str(file), "--limit", "much", code=Exit.USAGE)


def test_a_delta_sends_what_changed_and_says_how_much(shell: Shell, served: ServerProcess, file: Path) -> None:
    shell("upload", str(file))
    data = bytearray(file.read_bytes())
    data[MIB + 5] ^= 1
    file.write_bytes(data)
    shell("upload", str(file), "--delta")
    assert "upload done, sent 1.0 MB of 3.1 MB" in shell.err
    assert (served.files_dir / file.name).read_bytes() == data
    shell("upload", "-", "--to", "x", "--delta", code=Exit.USAGE)
    assert "without --delta" in shell.err


def test_folders_go_up_and_down(shell: Shell, file: Path, tmp_path: Path) -> None:
    folder = tmp_path / uuid.uuid4().hex
    (folder / "in").mkdir(parents=True)
    (folder / "in" / "a").write_text("a")
    (folder / "b").write_text("b")
    shell("upload", str(folder), str(file), "--to", f"{folder.name}/x")
    assert {f["name"] for f in shell.lines("ls", folder.name)} == {
        f"{folder.name}/x/{name}" for name in ("b", "in/a", file.name)
    }
    level = {f"{folder.name}/x/{name}" for name in ("b", "in/", file.name)}
    assert {item["name"] for item in shell.lines("ls", "--level", f"{folder.name}/x")} == level
    assert {line.split("\t")[2] for line in shell("ls", "--level", f"{folder.name}/x/").splitlines()} == level
    shell("download", f"{folder.name}/x/", "--to", str(tmp_path / "down"))
    assert (tmp_path / "down" / "in" / "a").read_text() == "a"


def test_the_standard_input_goes_up(served: ServerProcess) -> None:
    name = uuid.uuid4().hex
    subprocess.run([*COMMAND, "--url", served.url, "upload", "-", "--to", name], input=b"piped", check=True)
    assert (served.files_dir / name).read_bytes() == b"piped"


def test_several_downloads_land_in_a_folder(shell: Shell, tmp_path: Path) -> None:
    names = [f"{uuid.uuid4().hex}.{ending}" for ending in "ab"]
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
        shell("upload", str(tmp_path / name))
    shell("download", *names, "--to", str(tmp_path / "new"))
    shell("download", names[0], "--to", f"{tmp_path}/other/")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(names)
    assert (tmp_path / "other" / names[0]).read_bytes() == names[0].encode()


def test_a_name_that_looks_like_markup_is_a_name(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / f"{uuid.uuid4().hex}[bold][.x].bin"
    path.write_bytes(b"x")
    shell("upload", str(path))
    assert path.name in shell.err
    assert path.name in shell("ls", path.name[:10])


def test_a_refusal_names_the_flag_that_would_do(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / uuid.uuid4().hex
    path.write_bytes(b"x")
    shell("upload", str(path))
    path.write_bytes(b"y")
    shell("upload", str(path), code=Exit.REFUSED)
    assert "--overwrite" in shell.err
    shell("download", path.name, "--to", str(path), code=Exit.REFUSED)
    assert "--overwrite" in shell.err


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
