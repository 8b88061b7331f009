"""Jupyter servers with the extension."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.support.jupyter_server import JupyterServer


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    """One for all tests of a file."""
    with JupyterServer(tmp_path_factory.mktemp("j")) as server:
        yield server


@pytest.fixture
def own_jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    """One that the test may kill."""
    with JupyterServer(tmp_path_factory.mktemp("j")) as server:
        yield server


@pytest.fixture
def through(jupyter: JupyterServer) -> Iterator[httpx.Client]:
    """A client with Jupyter's token."""
    with httpx.Client(base_url=f"{jupyter.holdfast}/", headers=jupyter.headers, timeout=120) as client:
        yield client
