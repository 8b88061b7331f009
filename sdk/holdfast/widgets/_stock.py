"""Uploads and files of a server, kept up to date from events. No I/O; the feed holds its lock."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from holdfast import wire
from holdfast.widgets._speed import Speed

_OVER = ("finished", "cancelled", "expired")


class Stock:
    """`more` says that there are files which were not listed; `uploads` are those in the making."""

    def __init__(self) -> None:
        self.files: dict[str, wire.FileInfo] = {}
        self.uploads: dict[str, wire.UploadInfo] = {}
        self.speeds: dict[str, Speed] = {}
        self.more = False
        self.revision = 0

    def learn(self, files: Iterable[wire.FileInfo], uploads: Iterable[wire.UploadInfo], more: bool) -> None:
        """Take a whole listing."""
        self.files = {file.name: file for file in files}
        self.uploads = {upload.id: upload for upload in uploads if not upload.complete}
        self.speeds = {id: speed for id, speed in self.speeds.items() if id in self.uploads}
        self.more = more
        self.revision += 1

    def take(self, event: wire.Event) -> None:
        """Take an event of a file or an upload."""
        data = event.data or {}
        self.revision += 1
        if event.type == "file":
            if data.get("what") == "deleted":
                self.files.pop(event.id, None)
            else:
                self.files[event.id] = wire.FileInfo(
                    event.id, data.get("size", 0), event.time, data.get("etag", ""), "", data.get("sha256")
                )
        elif data.get("what") in _OVER:
            self.uploads.pop(event.id, None)
            self.speeds.pop(event.id, None)
        else:
            known = self.uploads.get(event.id)
            offset = data.get("offset", 0)
            if known is None:
                name, length = data.get("name") or "", data.get("length")
                known = wire.UploadInfo(event.id, name, offset, length, event.time, None, False)
            self.uploads[event.id] = msgspec.structs.replace(known, offset=offset, length=data.get("length"))
            self.speeds.setdefault(event.id, Speed()).add(event.time.timestamp(), offset)
