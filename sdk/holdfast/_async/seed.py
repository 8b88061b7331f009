"""`client.seed` of the async face."""

from __future__ import annotations

from typing import Any

from holdfast import calls, wire
from holdfast._client.core import AsyncCore


class AsyncSeed:
    """`client.seed`: the seed's endpoints, one request for each method."""

    def __init__(self, core: AsyncCore) -> None:
        self._core = core

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._core.connection.shown_url}>"

    async def start(self, id: str, work_type: str | None = None, **params: Any) -> wire.ProcessInfo:
        """`GET /{id}/process/`: start a process, or return it if it exists."""
        return await self._core.request(calls.seed_start(id, work_type, params))

    async def pause(self, id: str) -> wire.ProcessInfo:
        """`POST /{id}/process/pause/`."""
        return await self._core.request(calls.seed_pause(id))

    async def resume(self, id: str, work_types: list[str] | None = None) -> wire.ProcessInfo:
        """`POST /{id}/process/resume/`."""
        return await self._core.request(calls.seed_resume(id, work_types))

    async def cancel(self, id: str) -> wire.ProcessInfo:
        """`POST /{id}/process/cancel/`."""
        return await self._core.request(calls.seed_cancel(id))

    async def download(
        self, file_name: str, bytes_read: int = 0, *, encoding: calls.Encoding = "text", etag: str | None = None
    ) -> wire.DownloadPiece:
        """`GET /download/`: return the piece at `bytes_read`."""
        return await self._core.request(calls.seed_download(file_name, bytes_read, encoding=encoding, etag=etag))

    async def upload_status(self, file_name: str) -> wire.UploadStatus:
        """`GET /upload/`: return the offset at which to continue."""
        return await self._core.request(calls.seed_upload_status(file_name))

    async def upload(
        self,
        file_name: str,
        bytes_read: int,
        data: bytes,
        *,
        encoding: calls.Encoding = "text",
        file_size: int | None = None,
        overwrite: bool = False,
        is_complete: bool | None = None,
    ) -> wire.UploadStatus:
        """`POST /upload/`: append `data` at `bytes_read`."""
        call = calls.seed_upload(
            file_name,
            bytes_read,
            data,
            encoding=encoding,
            file_size=file_size,
            overwrite=overwrite,
            is_complete=is_complete,
        )
        return await self._core.request(call)

    async def upload_cancel(self, file_name: str) -> wire.UploadCancelled:
        """`POST /upload/cancel/`: delete the intermediate file."""
        return await self._core.request(calls.seed_upload_cancel(file_name))
