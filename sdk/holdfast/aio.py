"""The async client: `holdfast.AsyncClient`, and `holdfast.aio.connect`."""

from holdfast._async.client import AsyncClient, AsyncProcess, AsyncProcesses, AsyncSentFunction
from holdfast._async.files import AsyncFiles
from holdfast._async.seed import AsyncSeed
from holdfast._async.transfers import AsyncTransfers
from holdfast._connect.connecting import connect_async as connect

__all__ = [
    "AsyncClient",
    "AsyncFiles",
    "AsyncProcess",
    "AsyncProcesses",
    "AsyncSeed",
    "AsyncSentFunction",
    "AsyncTransfers",
    "connect",
]
