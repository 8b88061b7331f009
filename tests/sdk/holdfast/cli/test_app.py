"""The command `holdfast`."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete

import holdfast
from holdfast.cli._app import holdfast as group
from holdfast.cli._context import Exit
from tests.support.cli_shell import COMMAND, Shell, Started, read_until
from tests.support.proxy import Fault, FaultyProxy
from tests.support.servers import ServerProcess, wait_until

MIB = 1 << 20
ENDLESS = ["to=1000000000", "pause=0.01"]

pytestmark = pytest.mark.slow

Faulty = Callable[..., FaultyProxy]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / f"{uuid.uuid4().hex}.bin"
    path.write_bytes(random.Random(9).randbytes(3 * MIB))
    return path


def test_a_process_from_start_to_end(shell: Shell) -> None:
    id = f"cli-{uuid.uuid4().hex}"
    assert shell("start", "steps", *ENDLESS, "--id", id, "--label", "team=a", "--priority", "3").startswith(id)
    assert "holdfast watch" in shell.err
    shell("pause", id, "--wait")
    assert shell.json("show", id)["state"] == "paused"
    assert "team=a" in shell("show", id)
    assert id in shell("ps", "--state", "paused", "--label", "team=a", "--work-type", "steps")
    assert [p["id"] for p in shell.lines("ps", "--label", "team=a")] == [id]
    assert "paused" in shell("pause", id, code=Exit.REFUSED) + shell.err
    assert shell("resume", id).split()[0] == id
    assert shell.json("cancel", id, "--wait")["state"] == "cancelled"
    assert shell("log", id)
    assert shell.json("ps", "-n", "1", "--state", "cancelled")


def test_waiting_shows_the_end_and_its_exit_code(shell: Shell) -> None:
    assert "succeeded" in shell("start", "steps", "to=2", "--wait")
    assert shell.json("start", "steps", "to=2", "-w")["result"] == {"steps": 2}
    assert "no paper" in shell("start", "steps", "to=1", "fail=no paper", "-w", code=Exit.FAILED)
    id = shell("start", "steps", "to=2").split()[0]
    assert shell.json("watch", id)["state"] == "succeeded"


def test_waiting_can_have_a_limit(shell: Shell) -> None:
    id = f"cli-{uuid.uuid4().hex}"
    shell("start", "steps", *ENDLESS, "--id", id, "--wait", "--timeout", "0.1", code=Exit.TIMEOUT)
    shell("resume", id, code=Exit.REFUSED)
    shell("cancel", id, "--wait", "--timeout", "20")
    assert shell.json("show", id)["state"] == "cancelled"


def test_bulk_verbs_take_filters(shell: Shell) -> None:
    label = f"run={uuid.uuid4().hex}"
    ids = {shell.json("start", "steps", *ENDLESS, "--label", label)["id"] for _ in range(3)}
    assert {process["id"] for process in shell.lines("cancel", "--label", label)} == ids
    assert shell("pause", "--label", label, "--state", "failed") == ""
    assert "Nothing matched" in shell.err
    for arguments in (["cancel"], ["cancel", "x", "--label", label]):
        shell(*arguments, code=Exit.USAGE)


def test_a_log_can_be_followed(shell: Shell) -> None:
    id = shell("start", "steps", "to=20", "pause=0.02").split()[0]
    lines = shell("log", "-f", id).splitlines()
    assert [line.split("\t")[1] for line in lines if "step" in line] == [f"step {n}" for n in range(20)]
    assert json.loads(shell("log", id, "--json").splitlines()[0])["seq"]


def test_parameters_mean_what_the_work_type_says(shell: Shell) -> None:
    process = shell.json("start", "steps", "to=2", "pause=0", "fail=123")
    assert process["params"] == {"to": 2, "pause": 0.0, "fail": "123"}
    shell("start", "steps", "to=many", code=Exit.REFUSED)
    assert "to" in shell.err
    assert "steps" in shell("start", "stepps", code=Exit.REFUSED) + shell.err
    shell("start", "steps", "nonsense", code=Exit.USAGE)


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
    shell("upload", str(tmp_path / "nowhere"), code=Exit.NOT_FOUND)
    shell("upload", "-", code=Exit.USAGE)
    shell("upload", str(file), "--limit", "much", code=Exit.USAGE)


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


def test_ctrl_c_gives_up_the_standard_input_and_promises_nothing(
    served: ServerProcess, client: holdfast.Client, started: Started
) -> None:
    name = uuid.uuid4().hex
    child = started("--url", served.url, "upload", "-", "--to", name, "--limit", "2M", stdin=subprocess.PIPE)
    assert child.stdin is not None
    child.stdin.write(bytes(MIB + 1))
    child.stdin.flush()
    wait_until(lambda: any(upload.name == name and upload.offset for upload in client.files.uploads()))
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=30)
    assert child.returncode == Exit.INTERRUPTED, said
    assert b"can't be gone on with" in said
    assert b"--resume" not in said
    assert all(upload.name != name for upload in client.files.uploads())
    assert not (served.files_dir / name).exists()


def test_ctrl_c_pauses_and_the_same_command_goes_on(
    served: ServerProcess, faulty: Faulty, file: Path, shell: Shell, started: Started
) -> None:
    proxy = faulty(Fault(when=b"PATCH ", stall_up=2 * MIB))
    through = ["--url", proxy.url]
    child = started(*through, "upload", str(file), stdin=subprocess.DEVNULL)
    proxy.wait_for(lambda p: p.happened == 1)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=30)
    assert child.returncode == Exit.INTERRUPTED, said
    assert b"holdfast transfers --resume" in said
    assert file.name in shell(*through, "transfers")
    assert shell.json(*through, "transfers")["name"] == file.name
    before = proxy.bytes_up
    assert shell.json(*through, "transfers", "--resume")["size"] == 3 * MIB
    assert proxy.bytes_up - before < 3 * MIB
    shell(*through, "transfers")
    assert "Nothing is pending" in shell.err
    assert (served.files_dir / file.name).read_bytes() == file.read_bytes()


def test_for_programs_a_pause_by_ctrl_c_is_json_too(faulty: Faulty, file: Path, started: Started) -> None:
    proxy = faulty(Fault(when=b"PATCH ", stall_up=2 * MIB))
    child = started("--url", proxy.url, "--json", "upload", str(file), stdin=subprocess.DEVNULL)
    proxy.wait_for(lambda p: p.happened == 1)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=30)
    assert child.returncode == Exit.INTERRUPTED, said
    (problem,) = [json.loads(line) for line in said.splitlines()]
    assert problem["error"] == "Interrupted"
    assert (problem["kind"], problem["name"]) == ("upload", file.name)
    assert problem["exit_code"] == Exit.INTERRUPTED
    assert "holdfast transfers --resume" in problem["message"]


def test_what_can_not_be_gone_on_with_is_told_of_and_can_be_given_up(
    client: holdfast.Client, shell: Shell, tmp_path: Path
) -> None:
    paths = [tmp_path / f"{uuid.uuid4().hex}.bin" for _ in range(2)]
    for path in paths:
        path.write_bytes(random.Random(path.name).randbytes(MIB))
        transfer = client.files.upload(path, limit=MIB // 8)
        wait_until(lambda transfer=transfer: transfer.progress.done > 0)
        transfer.pause()
    gone, there = paths
    gone.unlink()
    sent = shell.json("transfers", "--resume", code=Exit.NOT_FOUND)
    assert sent["name"] == there.name, "the first does not keep the second from it"
    assert gone.name in shell.err
    assert [record["name"] for record in shell.lines("transfers")] == [gone.name]
    assert shell.lines("transfers", "another", "--cancel") == []
    given_up = shell.json("transfers", gone.name, "--cancel")
    assert given_up["name"] == gone.name
    assert shell.lines("transfers") == []
    assert all(upload.name != gone.name for upload in client.files.uploads())


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


def test_ctrl_c_in_a_terminal_asks_and_enter_goes_on(
    served: ServerProcess, faulty: Faulty, file: Path, started: Started, terminal: tuple[int, int]
) -> None:
    proxy = faulty(Fault(when=b"PATCH ", stall_up=2 * MIB))
    main, side = terminal
    child = started("--url", proxy.url, "upload", str(file), stdin=side, stderr=side)
    proxy.wait_for(lambda p: p.happened == 1)
    child.send_signal(signal.SIGINT)
    read_until(main, b"Enter goes on")
    os.write(main, b"\n")
    assert child.wait(30) == 0
    assert (served.files_dir / file.name).read_bytes() == file.read_bytes()


def test_ctrl_c_twice_stops(faulty: Faulty, file: Path, started: Started, terminal: tuple[int, int]) -> None:
    proxy = faulty(Fault(when=b"PATCH ", stall_up=2 * MIB))
    main, side = terminal
    child = started("--url", proxy.url, "upload", str(file), stdin=side, stderr=side)
    proxy.wait_for(lambda p: p.happened == 1)
    child.send_signal(signal.SIGINT)
    read_until(main, b"Enter goes on")
    child.send_signal(signal.SIGINT)
    assert child.wait(30) == Exit.INTERRUPTED


def test_ctrl_c_on_a_watch_leaves_the_process_running(
    shell: Shell, started: Started, terminal: tuple[int, int]
) -> None:
    id = shell("start", "steps", *ENDLESS).split()[0]
    main, side = terminal
    child = started("watch", id, stderr=side)
    read_until(main, id.encode())
    child.send_signal(signal.SIGINT)
    assert child.wait(30) == Exit.INTERRUPTED
    read_until(main, b"without being watched")
    assert shell.json("cancel", id)["state"] == "cancelling"


def test_watching_everything_shows_what_runs(shell: Shell, started: Started, terminal: tuple[int, int]) -> None:
    id = shell("start", "steps", "to=3000", "pause=0.01").split()[0]
    main, side = terminal
    child = started("watch", stdout=side)
    read_until(main, id.encode())
    later = shell("start", "steps", "to=1", "--id", f"later-{uuid.uuid4().hex}").split()[0]
    read_until(main, later.encode())
    read_until(main, b"1 succeeded")
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=30)
    assert child.returncode == Exit.INTERRUPTED
    lines, piped = started("--json", "watch"), started("watch")
    assert lines.stdout is not None
    assert piped.stdout is not None
    assert json.loads(lines.stdout.readline())["id"] == id
    said: list[bytes] = []
    reader = threading.Thread(target=lambda: said.append(piped.stdout.readline()))  # type: ignore[union-attr]
    reader.start()
    wait_until(lambda: shell("start", "steps", "to=1") and said, 30)
    reader.join()
    assert b"steps-" in said[0]
    shell("cancel", id)


def test_what_is_not_understood_is_a_usage_error(shell: Shell, file: Path) -> None:
    shell("start", "steps", "to", code=Exit.USAGE)
    assert "'to' is not NAME=VALUE" in shell.err
    for limit in ("fast", "-1", "0"):
        shell("upload", str(file), "--limit", limit, code=Exit.USAGE)
        assert "is not a size such as 500k or 2.5M" in shell.err
    shell("cancel", "nowhere", code=Exit.NOT_FOUND)
    shell("cancel", "--label", "nobody=has", code=Exit.OK)
    assert "Nothing matched" in shell.err


def test_what_can_not_be_done_in_bulk_is_told_of_each(shell: Shell) -> None:
    group = uuid.uuid4().hex
    ids = [
        shell("start", "steps", "to=1", "-w", "--label", f"group={group}", "--json").split('"id":"')[1].split('"')[0]
    ]
    shell("cancel", *ids, code=Exit.REFUSED)
    assert "it has ended" in shell.err
    assert shell.lines("resume", "--label", f"group={group}") == []


def test_errors_have_exit_codes_and_say_what_would_be_right(
    shell: Shell, spawn_server: Callable[..., ServerProcess], capsys: pytest.CaptureFixture[str]
) -> None:
    shell("show", "nowhere", code=Exit.NOT_FOUND)
    assert "nowhere" in shell.err
    shell("show", "nowhere", "--json", code=Exit.NOT_FOUND)
    assert json.loads(shell.err)["exit_code"] == Exit.NOT_FOUND
    assert json.loads(shell.err)["status"] == 404
    shell("nonsense", code=Exit.USAGE)
    closed = Shell("http://127.0.0.1:1", capsys)
    closed("version", code=Exit.UNREACHABLE)
    assert "ConnectFailed" in closed.out
    Shell("ftp://x", capsys)("ps", code=Exit.USAGE)
    secret = Shell(spawn_server(HOLDFAST_TOKEN="secret").url, capsys)
    secret("ps", code=Exit.NOT_ALLOWED)
    assert "HOLDFAST_TOKEN" in secret.err
    secret("--token", "secret", "ps")


def test_an_unreachable_server_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.plans.Retries.__init__.__defaults__", (0, 0.0, 0.0, 0.0))
    shell = Shell("http://127.0.0.1:1", capsys)
    shell("ps", code=Exit.UNREACHABLE)
    assert "holdfast serve" in shell.err


def test_what_the_server_can_run_and_versions(shell: Shell) -> None:
    assert "import-csv" in shell("work-types")
    assert "manifest" in {work["name"] for work in shell.lines("work-types")}
    assert shell.json("version")["server"] == "ready"
    assert "holdfast" in shell("--version")


def test_serve_starts_a_server_and_passes_signals_and_flags(tmp_path: Path, started: Started) -> None:
    flags = ["--port", "0", "--files-dir", str(tmp_path / "files"), "--data-dir", str(tmp_path / "data")]
    child = started("serve", *flags, stderr=subprocess.DEVNULL)
    assert child.stdout is not None
    line = child.stdout.readline().decode()
    assert line.startswith("Holdfast serving on ")
    with holdfast.Client(line.split()[-1]) as client:
        assert client.live()
    child.terminate()
    assert child.wait(30) == 0
    wrong = subprocess.run([*COMMAND, "serve", "--port", "nonsense"], capture_output=True, text=True)
    assert wrong.returncode == 2
    assert "--port" in wrong.stderr


def test_the_shell_completes_ids_names_and_work_types(shell: Shell, served: ServerProcess, file: Path) -> None:
    id = shell("start", "steps", "to=1", "-w", "--json").split('"id":"')[1].split('"')[0]
    shell("upload", str(file))

    def offered(arguments: list[str], incomplete: str) -> list[str]:
        complete = ShellComplete(group, {}, "holdfast", "_HOLDFAST_COMPLETE")
        return [item.value for item in complete.get_completions(["--url", served.url, *arguments], incomplete)]

    assert offered([], "wat") == ["watch"]
    assert id in offered(["show"], id[:8])
    assert offered(["start"], "st") == ["steps"]
    assert offered(["download"], file.name[:6]) == [file.name]
    complete = ShellComplete(group, {}, "holdfast", "_HOLDFAST_COMPLETE")
    assert complete.get_completions(["--url", "http://127.0.0.1:1", "show"], "x") == []
    for name in ("bash", "zsh", "fish"):
        assert "_HOLDFAST_COMPLETE" in shell("completion", name)
    assert shell.json("completion", "fish")["shell"] == "fish"


def commands(within: click.Group = group, above: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in within.commands.items():
        yield above + name, command
        if isinstance(command, click.Group):
            yield from commands(command, f"{above}{name} ")


@pytest.mark.parametrize(("name", "command"), list(commands()))
def test_every_command_says_what_it_does_takes_json_and_is_documented(name: str, command: click.Command) -> None:
    assert command.help
    assert "--json" in {option for param in command.params for option in param.opts}
    documentation = (Path(__file__).parents[4] / "docs/command.md").read_text(encoding="utf-8")
    assert f"`holdfast {name}" in documentation
    for param in command.params:
        for option in param.opts:
            if option.startswith("--") and option != "--json":
                assert f"`{option}" in documentation, f"{name} {option}"


def test_every_exit_code_is_documented() -> None:
    documentation = (Path(__file__).parents[4] / "docs/command.md").read_text(encoding="utf-8")
    for code in Exit:
        assert f"| {code.value} |" in documentation


def test_without_its_extra_the_command_says_what_to_install() -> None:
    code = "import sys; sys.modules['click'] = None\nfrom holdfast.cli import main\nmain()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "[cli]'" in done.stderr
