"""A server in this process behind a hub's API that knows two users."""

from __future__ import annotations

import dataclasses
import multiprocessing
from collections.abc import AsyncIterator, Callable, Iterator
from multiprocessing import forkserver

import httpx
import pytest

from tests.support.hub_api import HubApi
from tornado_app.app import App
from tornado_app.settings import Settings


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubApi]:
    """A hub's API, which this process finds by its environment."""
    with HubApi() as api:
        for name, value in api.environment().items():
            monkeypatch.setenv(name, value)
        yield api


@pytest.fixture
def settings(settings: Settings, hub: HubApi) -> Settings:
    """Those of a server that keeps users apart."""
    return dataclasses.replace(settings, auth="jupyterhub", per_user=True)


@pytest.fixture
async def as_user(server: App, base_url: str) -> AsyncIterator[Callable[[str], httpx.AsyncClient]]:
    """Makes clients that send a token."""
    clients: list[httpx.AsyncClient] = []

    def client(token: str) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {token}"}
        clients.append(httpx.AsyncClient(base_url=base_url, timeout=60, headers=headers))
        return clients[-1]

    yield client
    for made in clients:
        await made.aclose()


@pytest.fixture(scope="session", autouse=True)
def fork_server() -> None:
    """The process place's fork server, shared by all tests here: it ends with this process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tornado_app.processes.executors.child", "tests.support.work"])
    forkserver.ensure_running()
