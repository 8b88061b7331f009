"""Files to read, and both ways for many bytes to go out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.downloads import BIG, SMALL, Halfway
from tornado_app.server import sendfile
from tornado_app.settings import Settings


@pytest.fixture
def files(settings: Settings) -> Path:
    (settings.files_dir / "small.bin").write_bytes(SMALL)
    (settings.files_dir / "big.bin").write_bytes(BIG)
    return settings.files_dir


@pytest.fixture(params=["sendfile", "pieces"])
def way_out(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways for many bytes to go out: zero-copy, and pieces read off the loop."""
    if request.param == "pieces":
        monkeypatch.setattr(sendfile, "plain_stream", lambda connection: None)
    return str(request.param)


@pytest.fixture
def halfway(base_url: str, files: Path) -> Iterator[Halfway]:
    download = Halfway(base_url)
    with download.sock:
        yield download
