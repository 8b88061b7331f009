"""A local store, and the directory that it is on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tornado_app.files.store.local.published import LocalStore


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "files").mkdir()
    return tmp_path / "files"


@pytest.fixture
def store(root: Path) -> Iterator[LocalStore]:
    store = LocalStore(root)
    store.start()
    yield store
    store.close()
