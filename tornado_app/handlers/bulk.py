"""Receiving long bodies cheaply: the socket is read into pooled buffers, which go to the store without a copy."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, cast

from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream

from tornado_app.files.buffers import POOL, SIZE

_LEAST = 16 * 1024
_FIRST = 64 * 1024


class BulkStream(IOStream):
    """A stream whose long partial reads, such as those of bodies, come as memoryviews of pooled buffers.

    Tornado's own read copies each byte twice more. How much is asked for follows what comes, so that many slow senders
    do not hold a whole buffer each.
    """

    _ask = _FIRST
    _is_undelayed = False

    def set_nodelay(self, value: bool) -> None:
        """Once and for all: Tornado would turn it on and off for every request, and nothing here goes out in dribs."""
        if value and not self._is_undelayed:
            self._is_undelayed = True
            super().set_nodelay(True)

    def read_bytes(self, num_bytes: int, partial: bool = False) -> Awaitable[bytes]:
        if not partial or num_bytes < _LEAST:
            return super().read_bytes(num_bytes, partial)
        return self._read_bulk(num_bytes)

    async def _read_bulk(self, num_bytes: int) -> bytes:
        size = min(num_bytes, self._ask)
        buffer = POOL.take() if size > _FIRST else None
        view = memoryview(buffer or bytearray(min(size, _FIRST)))[:size]
        # The annotation says bytearray; what is needed is a writable buffer, as the documentation has it.
        count = await self.read_into(cast(bytearray, view), partial=True)
        if count == len(view):
            self._ask = SIZE
        elif count < _FIRST:
            self._ask = _FIRST
        return cast(bytes, view[:count])


class BulkServer(HTTPServer):
    """An HTTP server on such streams. TLS streams stay as they are: their bytes are copied by TLS anyway."""

    def handle_stream(self, stream: IOStream, address: Any) -> None:
        if type(stream) is IOStream:
            # Each read of anything else, such as headers, clears a buffer of this size first.
            stream = BulkStream(stream.socket, max_buffer_size=self.max_buffer_size, read_chunk_size=_FIRST)
        super().handle_stream(stream, address)
