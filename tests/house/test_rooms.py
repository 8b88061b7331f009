"""Every module has its place (`rooms.txt`), and imports what stands below it or beside it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.house.test_import_graph import graph
from tests.support.source_tree import modules

pytestmark = pytest.mark.slow  # to read all of the source takes more than a quarter of a second

TABLE = Path(__file__).with_name("rooms.txt")


def places() -> dict[str, int]:
    """Return the height of each module and package in its own package; the lowest have 0."""
    found: dict[str, int] = {}
    lines = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    for entry in re.split(r"\n(?=\S)", "\n".join(lines).strip()):
        package, _, rest = entry.partition(":")
        for height, names in enumerate(reversed(rest.split(">"))):
            for name in names.split():
                assert f"{package}.{name}" not in found, f"{package}.{name} stands in two places"
                found[f"{package}.{name}"] = height
    return found


def test_every_module_has_a_place() -> None:
    inside = {name for name in modules() if "." in name}
    assert sorted(inside - set(places())) == [], f"give them a place in {TABLE.name}"
    assert sorted(set(places()) - inside) == [], f"take them out of {TABLE.name}"


def test_modules_import_what_stands_below_them_or_beside_them() -> None:
    heights = places()
    wrong: list[str] = []
    for importer, imports in graph().items():
        for imported in imports:
            one, other = importer.split("."), imported.split(".")
            shared = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
            if not shared:
                continue  # of two top-level packages (import-linter), or a package and what is in it
            above, below = ".".join(one[: shared + 1]), ".".join(other[: shared + 1])
            if heights.get(above, 0) < heights.get(below, 0):
                wrong.append(f"{importer} imports {imported}, which stands higher")
    assert wrong == []


def test_the_journal_and_the_executors_meet_in_the_values_of_an_attempt() -> None:
    journal, executors, meeting = (
        f"tornado_app.processes.{name}" for name in ("journal", "executors", "executors.attempt")
    )
    wrong: list[str] = []
    for importer, imports in graph().items():
        for room, other in ((journal, executors), (executors, journal)):
            if importer.startswith(room) and importer != meeting:
                wrong += [
                    f"{importer} imports {name}" for name in imports if name.startswith(other) and name != meeting
                ]
    assert wrong == []
