"""The documentation is run: every shell command and every Python program in it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from importlib.metadata import metadata
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
import yaml

from tests.support.servers import ServerProcess
from tornado_app import settings

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
HERE = "http://127.0.0.1:8000"


class Block(NamedTuple):
    """A fenced code block. `file` is where ```` ```python file=NAME ```` says that it belongs."""

    page: str
    language: str
    file: str | None
    text: str


def blocks() -> Iterator[Block]:
    for page in PAGES:
        for info, text in re.findall(r"^```(\S[^\n]*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S):
            language, _, rest = info.partition(" ")
            yield Block(page.name, language, rest.removeprefix("file=") or None, text)


def commands() -> Iterator[tuple[str, str]]:
    """Page and command, with continued lines joined and comments left out."""
    for block in blocks():
        if block.language == "sh":
            for line in block.text.replace("\\\n", " ").splitlines():
                if line.strip() and not line.startswith("#"):
                    yield block.page, line.strip()


COMMANDS = list(commands())
SERVES = ("python -m tornado_app", "holdfast serve")
RUN = ("curl ", "aria2c ", "wget ", "head ", "tail ", "split ", "tar ", "python -c ", "holdfast ")


def is_run(command: str) -> bool:
    """Return whether it is run as it stands, in the order of its page; `upload=$(curl ...)` is kept for later lines."""
    started = re.sub(r"^\w+=\$\(", "", command)
    return started.startswith(RUN) and not started.startswith((*SERVES, "holdfast demo"))


def test_every_block_has_a_language_that_is_tested() -> None:
    known = {"sh", "python", "json", "nginx", "text", "toml", "ini", "dockerfile", "yaml"}
    assert {block.language for block in blocks()} <= known


@pytest.mark.parametrize("block", [block for block in blocks() if block.language in ("json", "toml", "yaml")], ids=str)
def test_data_is_what_it_says(block: Block) -> None:
    load = {"json": json.loads, "toml": tomllib.loads, "yaml": yaml.safe_load}[block.language]
    assert isinstance(load(block.text), dict)


@pytest.mark.parametrize("command", sorted({c for _, c in COMMANDS if c.startswith("make ")}))
def test_every_make_target_is_there(command: str) -> None:
    target = command.split("#")[0].split()[1]
    run = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("command", sorted({c for _, c in COMMANDS if c.startswith("pip install ")}))
def test_every_extra_is_there(command: str) -> None:
    found = re.fullmatch(r"pip install '?\.(?:\[([\w,-]+)\])?'?", command)
    assert found is not None
    extras = set(metadata("holdfast").get_all("Provides-Extra") or [])
    assert set((found[1] or "").split(",")) - {""} <= extras


@pytest.mark.parametrize("command", sorted({c for _, c in COMMANDS if c.startswith(SERVES)}))
def test_every_server_starts_with_settings_that_can_be(command: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a token")
    words = shlex.split(command.replace("/etc/holdfast", str(tmp_path)), comments=True)
    settings.read(words[3 if words[0] == "python" else 2 :], {})


def test_every_command_is_of_a_kind_that_is_tested() -> None:
    tested = ("make ", "pip install ", "python -m pytest", "holdfast demo", *SERVES)
    assert [c for _, c in COMMANDS if not is_run(c) and not c.startswith(tested)] == []


@pytest.fixture
def served(
    spawn_server: Callable[..., ServerProcess], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ServerProcess:
    """A server as `make run` starts it, which `connect()` finds, and the clone's Files/ as the working directory's."""
    monkeypatch.setenv("HOLDFAST_STATE_DIR", str(tmp_path / "state"))
    server = spawn_server("--allow-code")
    shutil.copy(ROOT / "Files/airports.csv", server.files_dir)
    (tmp_path / "Files").symlink_to(server.files_dir)
    return server


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted({page for page, command in COMMANDS if is_run(command)}))
def test_commands_work_in_their_order(served: ServerProcess, tmp_path: Path, page: str) -> None:
    lines = ["set -euo pipefail", 'curl() { command curl -sS --fail-with-body "$@"; }']
    for where, command in COMMANDS:
        program = re.sub(r"^\w+=\$\(", "", command).split()[0]
        if where == page and is_run(command) and (shutil.which(program) or program == "holdfast"):
            lines.append(command.replace(HERE, served.url))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "HOLDFAST_URL": served.url, "HOLDFAST_STATE_DIR": str(tmp_path / "state")}
    run = subprocess.run(
        ["bash", "-xc", "\n".join(lines)], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100
    )
    assert run.returncode == 0, f"{run.stdout}{run.stderr}"


PROGRAMS = [block for block in blocks() if block.language == "python" and block.file is None]


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda block: block.page)
def test_python_programs_run(served: ServerProcess, tmp_path: Path, program: Block) -> None:
    run_python(program.text.replace(HERE, served.url), tmp_path)


def run_python(text: str, folder: Path) -> str:
    environment = os.environ | {"HOLDFAST_STATE_DIR": str(folder / "state")}
    run = subprocess.run(
        [sys.executable, "-c", text], cwd=folder, env=environment, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, f"{text}\n{run.stdout}{run.stderr}"
    return run.stdout


@pytest.mark.slow
def test_work_of_your_own_runs_and_goes_on_from_its_checkpoint(
    spawn_server: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    block = next(block for block in blocks() if block.file == "my_work.py")
    (tmp_path / "my_work.py").write_text(block.text, encoding="utf-8")
    server = spawn_server("--import", "my_work", PYTHONPATH=str(tmp_path))
    said = run_python(
        f"""import holdfast
with holdfast.Client("{server.url}") as client:
    process = client.processes.start("count", to=5)
    process.pause().wait(until="paused")
    process.resume()
    print(process.result(), process.info.attempt)
""",
        tmp_path,
    )
    assert said == "{'counted': 5} 2\n"
    names = [item["name"] for item in httpx.get(server.url + "/v1/work-types").json()["items"]]
    assert "count" in names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        if not link.startswith(("http:", "https:")):
            assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pictures_are_small_and_told_in_words(page: Path) -> None:
    for words, link in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        assert len(words) > 40, link
        assert (page.parent / link).stat().st_size < 150_000, link


def test_the_readme_leads_to_the_site_and_that_to_every_page() -> None:
    assert "](docs/index.md)" in PAGES[0].read_text(encoding="utf-8")
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    for page in set(DOCS.rglob("*.md")) - {DOCS / "index.md"}:
        assert f"]({page.relative_to(DOCS)})" in index, f"nothing leads to {page.name}"
