"""Uploads and files of a server, kept up to date from events. No I/O; the feed holds its lock."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from holdfast import wire
from holdfast.notebook._feed._speed import Speed

_OVER = ("finished", "cancelled", "expired")


class ServerListing:
    """`more` says that there are files which were not listed; `uploads` are those in the making."""

    def __init__(self) -> None:
        self.files: dict[str, wire.FileInfo] = {}
        self.uploads: dict[str, wire.UploadInfo] = {}
        self.speeds: dict[str, Speed] = {}
        self.more = False
        self.revision = 0
        self._since: dict[tuple[str, str], wire.Event] | None = None  # the last of each since a listing was asked for

    def ask(self) -> None:
        """A whole listing is asked for now."""
        self._since = {}

    def learn(self, files: Iterable[wire.FileInfo], uploads: Iterable[wire.UploadInfo], more: bool) -> None:
        """Take a whole listing, which may be older than the events that came since it was asked for."""
        self.files = {file.name: file for file in files}
        self.uploads = {upload.id: upload for upload in uploads if not upload.complete}
        self.speeds = {id: speed for id, speed in self.speeds.items() if id in self.uploads}
        self.more = more
        since, self._since = self._since or {}, None
        for event in since.values():
            self._apply(event)
        self.revision += 1

    def take(self, event: wire.Event) -> None:
        """Take an event of a file or an upload."""
        if self._since is not None:
            self._since[event.type, event.id] = event
        self._apply(event)
        if event.type == "upload" and event.id in self.uploads:
            offset = self.uploads[event.id].offset
            self.speeds.setdefault(event.id, Speed()).add(event.time.timestamp(), offset)
        self.revision += 1

    def _apply(self, event: wire.Event) -> None:
        data = event.data or {}
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
