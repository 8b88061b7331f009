"""What the documentation says can be done is done: every shell command and every Python program in it is run."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from tests.servers import ServerProcess

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
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


def test_every_block_has_a_language_that_is_tested() -> None:
    assert {block.language for block in blocks()} <= {"sh", "python", "json", "text", "toml"}


@pytest.mark.parametrize("command", sorted({c for _, c in COMMANDS if c.startswith("make ")}))
def test_every_make_target_is_there(command: str) -> None:
    target = command.split("#")[0].split()[1]
    run = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_every_command_is_of_a_kind_that_is_tested() -> None:
    known = (
        "make ",
        "curl ",
        "python -m tornado_app",
        "python -m pytest",
        "holdfast ",
        "pip install ",
        "aria2c ",
        "wget ",
    )
    assert [c for _, c in COMMANDS if not c.startswith(known)] == []


@pytest.fixture
def served(spawn_server: Callable[..., ServerProcess], tmp_path: Path) -> ServerProcess:
    """A server as `make run` starts it, and the clone's Files/ as the working directory's."""
    server = spawn_server()
    shutil.copy(ROOT / "Files/airports.csv", server.files_dir)
    (tmp_path / "Files").symlink_to(server.files_dir)
    return server


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted({page for page, command in COMMANDS if command.startswith("curl ")}))
def test_curl_lines_work_in_their_order(served: ServerProcess, tmp_path: Path, page: str) -> None:
    for where, command in COMMANDS:
        if where == page and command.startswith("curl "):
            line = command.replace(HERE, served.url).replace("curl ", "curl -sS --fail-with-body ", 1)
            run = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, timeout=30)
            assert run.returncode == 0, f"{command}\n{run.stdout}{run.stderr}"


PROGRAMS = [block for block in blocks() if block.language == "python" and block.file is None]


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda block: block.page)
def test_python_programs_run(served: ServerProcess, tmp_path: Path, program: Block) -> None:
    run_python(program.text.replace(HERE, served.url), tmp_path)


def run_python(text: str, folder: Path) -> str:
    run = subprocess.run([sys.executable, "-c", text], cwd=folder, capture_output=True, text=True, timeout=60)
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


def test_the_readme_leads_to_every_page() -> None:
    readme = PAGES[0].read_text(encoding="utf-8")
    for page in PAGES[1:]:
        assert f"]({page.relative_to(ROOT)})" in readme, f"nothing leads to {page.name}"
