"""Origins of the pages of a kernel."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from holdfast._environment.jupyter import page_origins
from tornado_app.settings import read


def test_the_origins_of_a_kernels_pages_are_those_of_its_jupyter_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("JPY_PARENT_PID", "4711")
    assert page_origins() == []
    (tmp_path / "jpserver-4711.json").write_text('{"url": "http://lab.example:8888/base/"}')
    assert page_origins() == ["http://127.0.0.1:8888", "http://lab.example:8888", "http://localhost:8888"]
    for url, own in (
        ("http://[::1]:8888/", ["http://127.0.0.1:8888", "http://[::1]:8888", "http://localhost:8888"]),
        ("https://lab.example:443/", ["https://127.0.0.1", "https://lab.example", "https://localhost"]),
        ("http+unix://%2Frun%2Fjupyter.sock/", []),
    ):
        (tmp_path / "jpserver-4711.json").write_text(json.dumps({"url": url}))
        assert page_origins() == own
        assert read([], {"HOLDFAST_ALLOW_ORIGIN": ",".join(own)}).allow_origin == tuple(own)
    (tmp_path / "jpserver-4711.json").write_text("{")
    assert page_origins() == []
    monkeypatch.delenv("JPY_PARENT_PID")
    assert page_origins() == []
