"""Limits of this server: how long an upload may be, and how much of the disk stays free."""

from __future__ import annotations

from tornado_app import problems
from tornado_app.files.store.interface import FileStore
from tornado_app.settings import Settings


class SizeLimits:
    """Refuses an upload that is too large, before a byte is written."""

    def __init__(self, settings: Settings, store: FileStore) -> None:
        self.most = settings.max_upload_size or None
        self.reserve = settings.reserve_space
        self._store = store

    def check_length(self, length: int | None) -> None:
        """Raise TOO_LARGE for more bytes than this server takes."""
        if length is not None and self.most is not None and length > self.most:
            raise problems.TOO_LARGE(
                f"{length} bytes are more than the {self.most} that this server takes (--max-upload-size). Send fewer",
                max_size=self.most,
            )

    def check_space(self, size: int) -> None:
        """Raise NO_SPACE before the disk is full. Blocks."""
        free = self._store.free_space()
        if free is not None and free < size + self.reserve:
            raise problems.NO_SPACE(
                f"{free} bytes are free, and {self.reserve} of them stay so (--reserve-space). "
                "Make room, then go on from where the upload stands"
            )
