"""Waiting for a transfer as fsspec does, with its callbacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from fsspec.callbacks import DEFAULT_CALLBACK, Callback

from holdfast._transfers.handles import Transfer

T = TypeVar("T")


def wait_for(transfer: Transfer[T], callback: Callback = DEFAULT_CALLBACK) -> T:
    """Wait for a transfer and report its progress. A keyboard interrupt pauses it, so that it can be resumed."""

    def report(transfer: Transfer[T]) -> None:
        progress = transfer.progress
        if progress.total is not None:
            callback.set_size(progress.total)
        callback.absolute_update(progress.done)

    end: Callable[[], None] = transfer.on_change(report) if callback is not DEFAULT_CALLBACK else lambda: None
    try:
        return transfer.wait()
    except KeyboardInterrupt:
        transfer.pause()
        raise
    finally:
        end()
