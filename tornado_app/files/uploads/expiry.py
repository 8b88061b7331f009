"""What is done about uploads without anyone asking: what a crash interrupted is finished, what is abandoned goes."""

from __future__ import annotations

import asyncio
import logging

from tornado_app import problems
from tornado_app.files.uploads.service import Uploads

log = logging.getLogger("holdfast.files")

_MOST_BETWEEN_S = 60.0


class Expiry:
    """Runs from `start` to `stop`."""

    def __init__(self, uploads: Uploads, expiry: float) -> None:
        self._uploads = uploads
        self._between = min(_MOST_BETWEEN_S, expiry / 4)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Publish, in the background, what lacked nothing else when the server stopped; then sweep now and then."""
        for upload in self._uploads:
            self._uploads.spawn(self._uploads.finish_quietly(upload))
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Sweep no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._between)
            await self.sweep()

    async def sweep(self) -> None:
        """Remove what nobody has written to for as long as uploads are kept, and forget what was finished long ago.

        A file that grew in view is what its users see: it is closed as it stands.
        """
        await self._uploads.see()
        for upload in self._uploads:
            if upload.writer is not None or not self._uploads.is_expired(upload):
                continue
            try:
                if upload.record.in_view and not upload.complete and not upload.broken:
                    await self._uploads.finish(await self._uploads.acquire(upload), last=True)
                else:
                    await self._uploads.cancel(upload, expired=True)
            except problems.ProblemError as error:
                log.warning("upload %s could not be ended: %s", upload.id, error.detail)
            except OSError:
                log.exception("upload %s could not be ended", upload.id)
