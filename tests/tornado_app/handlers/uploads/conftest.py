"""The upload service alone, for protocols without a server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.files import file_service
from tornado_app.files.uploads.service import Uploads
from tornado_app.settings import Settings


@pytest.fixture
async def uploads(settings: Settings) -> AsyncIterator[Uploads]:
    service = file_service(settings)
    await service.open()
    yield service.uploads
    await service.close()
