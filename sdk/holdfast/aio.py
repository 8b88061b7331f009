"""The async client: `holdfast.AsyncClient`."""

from holdfast._async.client import AsyncClient, AsyncProcess

__all__ = ["AsyncClient", "AsyncProcess"]
