"""The environments of `make` have the command; elsewhere one line says what is missing and how to get it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from holdfast._environment.extras import install_hint

ROOT = Path(__file__).parents[2]


def requirements(extra: str) -> set[str]:
    """The packages of an extra, by name."""
    found = metadata.requires("holdfast") or []
    return {re.split(r"[^\w.-]", text)[0] for text in found if re.search(rf"extra == [\"']{extra}[\"']", text)}


def test_every_environment_of_make_has_the_command() -> None:
    extras = set(re.findall(r"\.has-(\w+)", (ROOT / "Makefile").read_text(encoding="utf-8")))
    assert extras >= {"demo", "dev", "docs", "bench"}
    for extra in extras:
        assert requirements(extra) >= {"click", "rich"}, extra


@pytest.mark.slow
def test_the_command_is_there_by_its_name_and_as_a_module() -> None:
    script = Path(sys.executable).with_name("holdfast")
    for command in ([script], [sys.executable, "-m", "holdfast"]):
        run = subprocess.run([*command, "--help"], capture_output=True, text=True, cwd="/")
        assert run.returncode == 0
        assert run.stdout.startswith("Usage: holdfast ")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "absent", "extra"),
    [
        ("tornado_app", "tornado", "server"),
        ("tornado_app", "sqlalchemy", "server"),
        ("tornado_app", "prometheus_client", "server"),
        ("holdfast", "click", "cli"),
        ("holdfast", "rich", "cli"),
        ("holdfast.cli", "click", "cli"),
        ("holdfast_examples.tour", "rich", "demo"),
    ],
)
def test_without_its_extra_a_program_says_so_in_one_line(module: str, absent: str, extra: str) -> None:
    code = f"import sys, runpy; sys.modules[{absent!r}] = None; sys.argv = ['x']; runpy.run_module({module!r}, "
    run = subprocess.run([sys.executable, "-c", code + "run_name='__main__')"], capture_output=True, text=True)
    assert run.returncode == 1
    assert run.stderr.count("\n") == 1, run.stderr
    assert absent in run.stderr
    assert f"[{extra}]'" in run.stderr


ORIGINS = [
    ({"url": f"file://{ROOT}", "dir_info": {"editable": True}}, f"pip install -e '{ROOT}[cli]'"),
    ({"url": f"file://{ROOT}", "dir_info": {}}, f"pip install '{ROOT}[cli]'"),
    ({"url": "file:///is/gone", "dir_info": {}}, "pip install '.[cli]' in a clone of Holdfast"),
    (
        {"url": "https://example.org/h.git", "vcs_info": {"vcs": "git", "requested_revision": "v1"}},
        "pip install 'holdfast[cli] @ git+https://example.org/h.git@v1'",
    ),
    ({}, "pip install '.[cli]' in a clone of Holdfast"),
    (None, "pip install '.[cli]' in a clone of Holdfast"),
]


@pytest.mark.parametrize(("origin", "hint"), ORIGINS)
def test_the_hint_names_where_it_was_installed_from(
    origin: dict[str, object] | None, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = None if origin is None else json.dumps(origin)
    monkeypatch.setattr(metadata, "distribution", lambda name: SimpleNamespace(read_text=lambda file: text))
    assert install_hint("cli") == hint


def test_no_text_tells_to_install_what_no_index_has() -> None:
    texts = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("notebooks/*.ipynb")]
    texts += [*ROOT.glob("sdk/**/*.py"), *ROOT.glob("tornado_app/**/*.py"), *ROOT.glob("benchmarks/**/*.py")]
    assert len(texts) > 100
    told = re.compile(r"(?:pip|uv|pipx)[ \w]* (?:install|add|run) +['\"`]?holdfast(?!\[\{extra\}\] @)")
    assert [path.name for path in texts if told.search(path.read_text(encoding="utf-8"))] == []
