"""The command `holdfast`."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete

from holdfast.cli._app import holdfast as group
from holdfast.cli._context import Exit
from tests.support.cli_shell import Shell
from tests.support.servers import ServerProcess

MIB = 1 << 20

pytestmark = pytest.mark.slow


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / f"{uuid.uuid4().hex}.bin"
    path.write_bytes(random.Random(9).randbytes(3 * MIB))
    return path


def test_what_is_not_understood_is_a_usage_error(shell: Shell, file: Path) -> None:
    shell("start", "steps", "to", code=Exit.USAGE)
    assert "'to' is not NAME=VALUE" in shell.err
    for limit in ("fast", "-1", "0"):
        shell("upload", str(file), "--limit", limit, code=Exit.USAGE)
        assert "is not a size such as 500k or 2.5M" in shell.err
    shell("cancel", "nowhere", code=Exit.NOT_FOUND)
    shell("cancel", "--label", "nobody=has", code=Exit.OK)
    assert "No process matches" in shell.err


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
