"""The events that those who watch get about uploads and files."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from holdfast.wire import Event
from tornado_app.clocks import steady
from tornado_app.files.uploads.upload import Upload

PROGRESS_S = 0.5
"""Least seconds between two events about the progress of one request."""


class UploadEvents:
    """Makes the events and emits them, on the event loop."""

    def __init__(self, emit: Callable[[Event], None]) -> None:
        self._emit = emit

    def of_upload(self, upload: Upload, what: str, **data: Any) -> None:
        """Emit an event of an upload; `what` is created, progress, finished, cancelled or expired."""
        upload.announced_at = steady()
        self.of_request(upload.id, what, upload.record.name, upload.offset, upload.record.length, **data)

    def of_request(self, id: str, what: str, name: str | None, offset: int, length: int | None, **data: Any) -> None:
        """Emit an event of an upload that is no `Upload`, such as one that is never staged."""
        data = {"what": what, "name": name, "offset": offset, "length": length, **data}
        self._emit(Event(type="upload", id=id, time=datetime.now(UTC), data=data))

    def of_progress(self, upload: Upload, *, is_pause: bool = False) -> None:
        """Emit progress if the last event is old enough; at the end of a request (`is_pause`), if there was any."""
        if upload.moved_at - upload.announced_at > (0 if is_pause else PROGRESS_S):
            self.of_upload(upload, "progress")

    def of_file(self, name: str, what: str, **data: Any) -> None:
        """Emit an event of a file; `what` is published or deleted."""
        self._emit(Event(type="file", id=name, time=datetime.now(UTC), data={"what": what, **data}))
