"""Body of one request of an upload."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from holdfast._local_files.local_digests import PassingBlocks
from holdfast._transfers.upload.state import UploadState
from holdfast.digests import BLOCK
from holdfast.errors import LocalChanged


class UploadBody:
    """Body of one request: bytes of the source. Hashes them, reports progress, and keeps to the rate limit."""

    def __init__(
        self, state: UploadState, begin: int, length: int, on_sent: Callable[[int], None] = lambda count: None
    ) -> None:
        """`on_sent` is called with the number of bytes of this body that were given to the connection."""
        self.length = length
        self._state = state
        self._begin = begin
        self._on_sent = on_sent

    def pieces(self) -> Iterator[bytes]:
        """Iterate over the body from its start. Reads and waits block."""
        state, at, end = self._state, self._begin, self._begin + self.length
        blocks = PassingBlocks(state.digests) if state.by_blocks else None
        while at < end:
            most = min(BLOCK - at % BLOCK, end - at)
            piece = state.source.read(at, state.throttle.piece(most))
            if not piece:
                raise LocalChanged(f"the source ended {end - at} bytes early. Upload it again")
            if blocks is not None:
                blocks.feed(at, piece)
            yield piece
            at += len(piece)
            state.count_sent(len(piece))
            self._on_sent(at - self._begin)
            if wait := state.throttle.delay(len(piece)):
                time.sleep(wait)
