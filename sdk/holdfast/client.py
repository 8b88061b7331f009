"""The sync client: `holdfast.Client`."""

from holdfast._sync.client import Client, Process, Processes, SentFunction
from holdfast._sync.files import Files, Seed, Transfers

__all__ = ["Client", "Files", "Process", "Processes", "Seed", "SentFunction", "Transfers"]
