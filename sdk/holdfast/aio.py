"""The async client: `holdfast.AsyncClient`."""

from holdfast._async.client import AsyncClient, AsyncProcess, AsyncProcesses, AsyncSentFunction
from holdfast._async.files import AsyncFiles, AsyncSeed, AsyncTransfers

__all__ = [
    "AsyncClient",
    "AsyncFiles",
    "AsyncProcess",
    "AsyncProcesses",
    "AsyncSeed",
    "AsyncSentFunction",
    "AsyncTransfers",
]
