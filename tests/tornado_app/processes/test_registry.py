"""Work types of one's own: found by module and by entry point, and refused at the start when they can't work."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from holdfast.work import work_type
from tests.support import work
from tornado_app.processes import registry as module
from tornado_app.processes.registry import BUILT_IN, Registry
from tornado_app.settings import Settings, SettingsError

HEAD = "from holdfast.work import Progress, work_type\n"
GOOD = HEAD + "@work_type('mine')\ndef mine(job):\n    'What it does.'\n    yield Progress()\n"

Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a module of somebody else and gives its name."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(source: str) -> str:
        name = f"theirs_{abs(hash(source))}"
        (tmp_path / f"{name}.py").write_text(source)
        return name

    yield write  # type: ignore[misc]
    for name in [name for name in sys.modules if name.startswith("theirs_")]:
        del sys.modules[name]


def load(**settings: Any) -> Registry:
    return Registry.load(Settings(**settings))


def test_what_comes_with_the_server_and_what_is_imported_is_there(write: Write) -> None:
    name = write(GOOD)
    loaded = load(import_=(name, "tests.support.work"))
    assert {"mine", "steps", "manifest", "import-csv"} <= set(loaded.names)
    assert loaded.module_of("mine") == name
    assert [info.doc for info in loaded.infos() if info.name == "mine"] == ["What it does."]
    assert load(import_=(name, name)).names == load(import_=(name,)).names, "twice is once"


@pytest.mark.parametrize("value", ["{}", "{}:mine"])
def test_an_installed_package_offers_its_own(write: Write, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    point = EntryPoint("theirs", value.format(write(GOOD)), module.ENTRY_POINTS)
    monkeypatch.setattr(module, "entry_points", lambda group: [point])
    assert "mine" in load().names


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (None, "No module named 'no_such_module'"),
        ("x = 1", "the module has no function declared with @work_type"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def (", "SyntaxError: invalid syntax"),
        (HEAD + "@work_type('mine')\ndef mine(job):\n    return 1\n", "a work type must be a generator function"),
        (HEAD + "@work_type('mine', place='loop')\ndef mine(job):\n    yield\n", "plain generators in a thread"),
        (GOOD.replace("'mine'", "'my own'"), "work type 'my own': a name is 1 to 128 of letters"),
        (GOOD.replace("'mine'", "'manifest'"), "two work types are named 'manifest'. Rename one"),
        (GOOD.replace("'mine'", "'mine', params=dict"), "work type 'mine': its parameters must be a msgspec.Struct"),
    ],
)
def test_what_cannot_work_is_refused_at_the_start_with_the_reason(write: Write, source: str | None, words: str) -> None:
    name = "no_such_module" if source is None else write(source)
    with pytest.raises(SettingsError) as refusal:
        load(import_=(name,))
    assert words in str(refusal.value)


@pytest.mark.parametrize(
    ("source", "value", "words"),
    [
        ("1 / 0", "{}", "entry point theirs = {}: ZeroDivisionError"),
        (GOOD, "{}:nothing", "entry point theirs = {}:nothing: AttributeError"),
        (GOOD, "{}:Progress", "entry point theirs = {}:Progress: it is a StructMeta, not declared with @work_type"),
    ],
)
def test_an_entry_point_that_is_no_good_is_named(
    write: Write, monkeypatch: pytest.MonkeyPatch, source: str, value: str, words: str
) -> None:
    name = write(source)
    point = EntryPoint("theirs", value.format(name), module.ENTRY_POINTS)
    monkeypatch.setattr(module, "entry_points", lambda group: [point])
    with pytest.raises(SettingsError) as refusal:
        load()
    assert words.format(name) in str(refusal.value)


def test_the_default_must_be_one_of_them() -> None:
    with pytest.raises(SettingsError, match="--default-work-type moon: no such work type; there are command, "):
        load(default_work_type="moon")


def test_sent_code_is_a_work_type_only_where_it_is_allowed() -> None:
    assert "code" not in load().names
    assert "code" in load(allow_code=True).names
    assert len(load().names) >= len(BUILT_IN)


def test_a_work_type_can_be_called_as_a_test_would() -> None:
    from holdfast.work import Job

    assert list(work.empty(Job("p", None))) == []
    declared = work_type("w", params=work.Steps, retries=2, limit=1)(work.empty.function)
    info = module.describe(declared)
    assert (info.retries, info.limit, info.can_roll_back) == (2, 1, False)
    assert dataclasses.is_dataclass(Settings)
