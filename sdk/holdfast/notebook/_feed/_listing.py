"""Files and uploads of a server, kept current from events. No I/O; the feed holds its lock."""

from __future__ import annotations

import time
from collections.abc import Iterable

import msgspec

from holdfast import wire
from holdfast.notebook._feed._speed import Speed

_FINAL_EVENTS = ("finished", "cancelled", "expired")


class ServerListing:
    """Files and unfinished uploads. `more` is true if the server has files beyond the first page."""

    def __init__(self) -> None:
        self.files: dict[str, wire.FileInfo] = {}
        self.uploads: dict[str, wire.UploadInfo] = {}
        self.speeds: dict[str, Speed] = {}
        self.more = False
        self.revision = 0
        # The newest event of each file and upload since a listing was requested; None if none is awaited.
        self._since: dict[tuple[str, str], wire.Event] | None = None

    def begin_request(self) -> None:
        """Keep events from now on, because a listing is being requested."""
        self._since = {}

    def replace(self, files: Iterable[wire.FileInfo], uploads: Iterable[wire.UploadInfo], more: bool) -> None:
        """Take a whole listing, then the events since it was requested, which may be newer."""
        self.files = {file.name: file for file in files}
        self.uploads = {upload.id: upload for upload in uploads if not upload.complete}
        self.speeds = {id: speed for id, speed in self.speeds.items() if id in self.uploads}
        self.more = more
        since, self._since = self._since or {}, None
        for event in since.values():
            self._apply(event)
        self.revision += 1

    def apply_event(self, event: wire.Event) -> None:
        """Apply an event of a file or an upload."""
        if self._since is not None:
            # The digest of a file is another thing than the file: it does not take the place of its publication.
            is_digest = event.type == "file" and (event.data or {}).get("what") == "digest"
            self._since["digest" if is_digest else event.type, event.id] = event
        self._apply(event)
        if event.type == "upload" and event.id in self.uploads:
            offset = self.uploads[event.id].offset
            speed = self.speeds.setdefault(event.id, Speed())
            speed.add(event.time.timestamp(), offset)
            speed.moved(time.monotonic())
        self.revision += 1

    def _apply(self, event: wire.Event) -> None:
        data = event.data or {}
        if event.type == "file":
            if data.get("what") == "deleted":
                self.files.pop(event.id, None)
            elif data.get("what") == "digest":
                file = self.files.get(event.id)
                if file is not None and file.etag == data.get("etag"):
                    self.files[event.id] = msgspec.structs.replace(file, sha256=data.get("sha256"))
            else:
                version = data.get("etag", ""), "", data.get("sha256"), data.get("block_digest")
                self.files[event.id] = wire.FileInfo(event.id, data.get("size", 0), event.time, *version)
        elif data.get("what") in _FINAL_EVENTS:
            self.uploads.pop(event.id, None)
            self.speeds.pop(event.id, None)
        else:
            known = self.uploads.get(event.id)
            offset = data.get("offset", 0)
            if known is None:
                name, length = data.get("name") or "", data.get("length")
                known = wire.UploadInfo(event.id, name, offset, length, event.time, None, False)
            self.uploads[event.id] = msgspec.structs.replace(known, offset=offset, length=data.get("length"))
