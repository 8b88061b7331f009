"""What is told about uploads and files to those who watch."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from holdfast.wire import Event
from tornado_app.clocks import steady
from tornado_app.files.uploads.upload import Upload

PROGRESS_S = 0.5
"""How often an upload's progress is told at most, while a request goes on."""


class UploadEvents:
    """Makes events out of what happens, on the loop."""

    def __init__(self, emit: Callable[[Event], None]) -> None:
        self._emit = emit

    def of_upload(self, upload: Upload, what: str, **data: Any) -> None:
        """`what`: created, progress, finished, cancelled, expired."""
        upload.told = steady()
        record = upload.record
        data = {"what": what, "name": record.name, "offset": upload.offset, "length": record.length, **data}
        self._emit(Event(type="upload", id=upload.id, time=datetime.now(UTC), data=data))

    def of_progress(self, upload: Upload, *, is_pause: bool = False) -> None:
        """Bytes have come; now and then it is told, and at the end of a request (`is_pause`) what was not told yet."""
        if upload.moved - upload.told > (0 if is_pause else PROGRESS_S):
            self.of_upload(upload, "progress")

    def of_file(self, name: str, what: str, **data: Any) -> None:
        """`what`: published, deleted."""
        self._emit(Event(type="file", id=name, time=datetime.now(UTC), data={"what": what, **data}))
