"""Files that are open for writing: an upload that is published when they are closed."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from types import TracebackType

from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from holdfast import errors, wire
from holdfast._fsspec.os_errors import as_os_errors
from holdfast._fsspec.waiting import wait_for
from holdfast._transfers.handles import Transfer, TransferState


class WrittenFile(AbstractBufferedFile):  # type: ignore[misc]  # fsspec has no types
    """A file open for writing. A small one is sent in one request by `close`, a bigger one while it is written.

    It is published when it is closed, or, in a transaction, when that is committed. A `with` block that ends with an
    exception publishes nothing.
    """

    def __init__(self, fs: AbstractFileSystem, path: str, mode: str, block_size: int, autocommit: bool) -> None:
        super().__init__(fs, path, mode, block_size, autocommit)
        self._overwrite = mode != "xb"
        self._last = b""
        self._pieces = _Pieces()
        self._transfer: Transfer[wire.FileInfo] | None = None

    def _upload_chunk(self, final: bool = False) -> bool:
        piece: bytes = self.buffer.getvalue()
        if final:
            self._last = piece
            if self.autocommit:
                self.commit()
        else:
            with as_os_errors(self.path):
                self._send(piece)
        return True

    def _send(self, piece: bytes | None) -> None:
        if self._transfer is None:
            self._transfer = self.fs.client.files.upload(self._pieces, self.path, overwrite=self._overwrite)
        while not self._pieces.put(piece):
            if self._transfer.state is TransferState.FAILED:
                self._transfer.wait()

    def commit(self) -> None:
        """Publish the file."""
        with as_os_errors(self.path):
            if self._transfer is None:
                wait_for(self.fs.client.files.upload(self._last, self.path, overwrite=self._overwrite))
            else:
                self._send(self._last)
                self._send(None)
                self._transfer.wait()

    def discard(self) -> None:
        """Discard the upload. A file that was published before stays."""
        self.closed = True
        if self._transfer is not None:
            self._pieces.abort()
            self._transfer.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


class _Pieces:
    """Pieces that one thread writes and another one sends."""

    def __init__(self) -> None:
        self._waiting: queue.Queue[bytes | None] = queue.Queue(maxsize=1)
        self._aborted = False

    def put(self, piece: bytes | None) -> bool:
        """Pass a piece on, None after the last. Return False if the piece before was not taken within 0.2 s."""
        try:
            self._waiting.put(piece, timeout=0.2)
        except queue.Full:
            return False
        return True

    def abort(self) -> None:
        """Raise an error on the thread that waits for a piece."""
        self._aborted = True
        self.put(None)

    def __iter__(self) -> Iterator[bytes]:
        while (piece := self._waiting.get()) is not None and not self._aborted:
            yield piece
        if self._aborted:
            raise errors.TransferCancelled("the file was discarded while it was written")
