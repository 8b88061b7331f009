"""The sync client: `holdfast.Client`."""

from holdfast._sync.client import Client, Process, Processes, SentFunction
from holdfast._sync.files import Files
from holdfast._sync.seed import Seed
from holdfast._sync.transfers import Transfers

__all__ = ["Client", "Files", "Process", "Processes", "Seed", "SentFunction", "Transfers"]
