"""docs/work-types.md has every work type that comes with the server, with every parameter."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from tornado_app.processes.registry import Registry
from tornado_app.processes.sent_code import code
from tornado_app.settings import Settings

PAGE = (Path(__file__).parents[3] / "docs/work-types.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## `([^`]+)`\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S))
REGISTRY = Registry.load(Settings(allow_code=True))
NAMES = sorted({*REGISTRY.names} - {code.name})  # which has a page of its own


def test_every_work_type_has_a_section_and_no_other_has() -> None:
    assert sorted(SECTIONS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_is_in_its_table_and_marked_when_it_must_be_given(name: str) -> None:
    rows = re.findall(r"^\| `([^`]+)`( \*)? \|", SECTIONS[name], re.M)
    fields = msgspec.structs.fields(REGISTRY.find(name).params)
    assert {row[0]: bool(row[1]) for row in rows} == {field.encode_name: field.required for field in fields}


@pytest.mark.parametrize("name", NAMES)
def test_every_work_type_explains_itself_and_can_be_undone(name: str) -> None:
    work = REGISTRY.find(name)
    assert work.doc
    assert work.rollback_function is not None
