"""Endpoints of the server itself."""

from __future__ import annotations

from holdfast import wire
from holdfast._endpoints.call import CallResponse, Parts, endpoint


def _read_text(answer: CallResponse) -> str:
    return answer.body.decode("utf-8", "replace")


@endpoint("GET", "/health/live", wire.Health)
def live() -> Parts:
    """Check that the server answers."""
    return Parts()


@endpoint("GET", "/health/ready", wire.Health)
def ready() -> Parts:
    """Check that the server can work."""
    return Parts()


@endpoint("GET", "/v1/identity", wire.Identity)
def identity(nonce: str) -> Parts:
    """Ask the server to prove which one it is."""
    return Parts(query={"nonce": nonce})


@endpoint("GET", "/metrics", str, read=_read_text)
def metrics() -> Parts:
    """Read the metrics, for Prometheus."""
    return Parts()


@endpoint("GET", "/openapi.json", dict)
def openapi() -> Parts:
    """Read the OpenAPI document."""
    return Parts()
