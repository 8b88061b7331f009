"""The tile in JupyterLab's launcher, as the installed package brings it."""

from __future__ import annotations

from typing import Any

from tests.browser.conftest import Jupyter, new_page


def test_the_tile_opens_the_page_of_the_server(jupyter: Jupyter, browser: Any) -> None:
    page = new_page(browser)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.context.route("**/holdfast/", lambda route: route.fulfill(status=200, body="here"))  # no server is started
    page.goto(f"{jupyter.url}/lab?reset")
    tile = page.locator(".jp-LauncherCard", has_text="Holdfast").first
    tile.wait_for()
    with page.context.expect_page() as opened:
        tile.click()
    opened.value.wait_for_url(f"{jupyter.url}/holdfast/")
    assert page.evaluate("window.jupyterapp.commands.hasCommand('holdfast:open')")
    page.context.close()
    assert errors == []
