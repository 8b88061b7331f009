"""Every setting has a flag and a variable, is documented, and explains itself."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tornado_app.settings import Settings, flag, variable

ROOT = Path(__file__).parents[2]
FIELDS = [f.name for f in dataclasses.fields(Settings)]


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_is_documented_with_its_flag_its_variable_and_its_default(name: str) -> None:
    rows = (ROOT / "docs/settings.md").read_text(encoding="utf-8").splitlines()
    row = next((row for row in rows if row.startswith(f"| `{flag(name)}")), None)
    assert row is not None, f"{flag(name)} is not in docs/settings.md"
    assert f"`{variable(name)}`" in row
    default = getattr(Settings(), name)
    if default is True:
        assert "| on |" in row
    elif default not in (None, "", False, (), {}):
        assert f"`{default}`" in row, f"the default of {flag(name)} is {default}"


def test_no_setting_is_documented_that_does_not_exist() -> None:
    rows = (ROOT / "docs/settings.md").read_text(encoding="utf-8").splitlines()
    documented = {row.split("`")[1].split(" ")[0] for row in rows if row.startswith("| `--")}
    assert documented == {flag(name) for name in FIELDS}


def test_every_setting_explains_itself_in_one_line() -> None:
    for f in dataclasses.fields(Settings):
        text = f.metadata["help"]
        assert text
        assert len(text) < 100, f.name
        assert not text.endswith("."), f.name
