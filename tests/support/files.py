"""File services for tests, on the store that the settings name."""

from __future__ import annotations

import functools

from tornado_app.files.service import FileService
from tornado_app.settings import Settings


def file_service(settings: Settings) -> FileService:
    """Return a file service as the server makes it; it is not open yet."""
    from tornado_app.app import open_store  # most tests need no server, and start quicker without

    return FileService(settings, functools.partial(open_store, settings))
