"""Chromium goes on with a download that broke: by itself, with our validators."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Error, sync_playwright

from tests.integration.conftest import CONTENT, MIB, program
from tests.support.proxy import Fault, FaultyProxy

Broken = Callable[..., FaultyProxy]

pytestmark = pytest.mark.slow


def test_chromium_resumes_a_broken_download(broken: Broken, tmp_path: Path) -> None:
    proxy = broken(Fault(when=b"GET /v1/files/big.bin", cut_down=5 * MIB, reset=False))
    chromium = program("chromium-headless-shell", "chromium", "chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        with page.expect_download() as begun, pytest.raises(Error, match="Download is starting"):
            page.goto(f"{proxy.url}/v1/files/big.bin")
        download = begun.value
        assert download.suggested_filename == "big.bin"
        assert download.failure() is None
        download.save_as(tmp_path / "got.bin")
        browser.close()
    assert (tmp_path / "got.bin").read_bytes() == CONTENT
    assert proxy.happened == 1
    assert proxy.bytes_down < len(CONTENT) + 2 * MIB, "it went on, and did not begin again"
