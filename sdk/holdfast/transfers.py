"""Handles on transfers in the background."""

from holdfast._transfers.handles import AsyncTransfer, Transfer, TransferProgress, TransferState, TransferView

__all__ = ["AsyncTransfer", "Transfer", "TransferProgress", "TransferState", "TransferView"]
