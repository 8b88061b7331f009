"""The async client: `holdfast.AsyncClient`."""

from holdfast._async.client import AsyncClient, AsyncProcess, AsyncProcesses, AsyncSentFunction
from holdfast._async.files import AsyncFiles
from holdfast._async.seed import AsyncSeed
from holdfast._async.transfers import AsyncTransfers

__all__ = [
    "AsyncClient",
    "AsyncFiles",
    "AsyncProcess",
    "AsyncProcesses",
    "AsyncSeed",
    "AsyncSentFunction",
    "AsyncTransfers",
]
