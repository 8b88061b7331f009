"""Executors without an engine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tornado_app.files.store.local.published import LocalStore
from tornado_app.files.workspace import Workspace
from tornado_app.processes.work_context import WorkContext, WorkSettings
from tornado_app.settings import Settings


@pytest.fixture
def workspace(settings: Settings) -> Iterator[Workspace]:
    """The files of work."""
    store = LocalStore(settings.files_dir)
    yield Workspace(store)
    store.close()


@pytest.fixture
def context(settings: Settings, workspace: Workspace) -> Iterator[WorkContext]:
    """Return the context that the server gives to work."""
    context = WorkContext(WorkSettings.of(settings), workspace)
    yield context
    context.close()
