"""The sync client: `holdfast.Client`."""

from holdfast._sync.client import Client, Process

__all__ = ["Client", "Process"]
