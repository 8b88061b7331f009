"""The optional powers that each store has: a power that is lost by a change of its methods is seen here."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.store_conformance import put
from tornado_app.files.store import blocks, optional_powers
from tornado_app.files.store.interface import FileStore
from tornado_app.files.store.local.published import LocalStore
from tornado_app.files.store.memory.store import MemoryStore

MISSING_IN_MEMORY = {"HasDescriptor", "KeepsCrc32", "JoinsParts", "ListsFolders", "HasDescription"} | {
    "HasStamp",
    "ListsStamps",
    "OpensInOrder",
}


def powers() -> dict[str, type]:
    """Return all optional powers that `isinstance` finds."""
    found = {**vars(optional_powers), **{name: getattr(blocks, name) for name in ("TakesBlocks", "FindsContent")}}
    return {
        name: value
        for name, value in found.items()
        if isinstance(value, type) and getattr(value, "_is_runtime_protocol", False)
    }


def powers_of(store: FileStore) -> set[str]:
    put(store, "a", b"some bytes")
    reader, staged = store.open("a"), store.create("u", b"")
    try:
        return {name for name, power in powers().items() if isinstance(store, power) or isinstance(reader, power)} | {
            name for name, power in powers().items() if isinstance(staged, power)
        }
    finally:
        reader.close()
        staged.discard()


def test_the_local_store_has_all_powers(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    try:
        assert powers_of(store) == set(powers())
    finally:
        store.close()


def test_the_memory_store_has_those_that_memory_can_give() -> None:
    assert powers_of(MemoryStore()) == set(powers()) - MISSING_IN_MEMORY


@pytest.mark.parametrize("name", sorted(powers()))
def test_each_says_whose_power_it_is(name: str) -> None:
    assert (powers()[name].__doc__ or "").startswith("Optional power of a `")
