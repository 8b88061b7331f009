"""The file service: how it opens, and what it says when it can't."""

from __future__ import annotations

import dataclasses
import errno
import re

import pytest

from tests.support.files import file_service
from tornado_app.files.service import FileService
from tornado_app.files.store.interface import FileStore
from tornado_app.settings import Settings, SettingsError


async def test_a_folder_that_can_not_be_used_is_named_with_its_setting(settings: Settings) -> None:
    in_the_way = settings.files_dir.parent / "a file"
    in_the_way.write_bytes(b"")
    folder = in_the_way / "Files"
    service = file_service(dataclasses.replace(settings, files_dir=folder))
    with pytest.raises(SettingsError, match=re.escape(f"--files-dir {folder} can't be used: Not a directory")):
        await service.open()


def fails() -> FileStore:
    """Open no store: the disk is broken."""
    raise OSError(errno.EIO, "Input/output error")


async def test_a_failure_of_the_disk_names_the_folder_too(settings: Settings) -> None:
    said = re.escape(f"--files-dir {settings.files_dir} can't be used: Input/output error")
    with pytest.raises(SettingsError, match=said):
        await FileService(settings, fails).open()


async def test_a_store_without_a_folder_names_none(settings: Settings) -> None:
    service = FileService(dataclasses.replace(settings, store="memory"), fails)
    with pytest.raises(SettingsError, match=r"^the file store can't be used: Input/output error$"):
        await service.open()
