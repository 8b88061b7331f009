"""`/health`, `/health/live`, `/health/ready` and `/metrics`: for whoever runs the server."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, disable_created_metrics, generate_latest

from holdfast.wire import Health
from tornado_app import problems
from tornado_app.handlers.base import HeadHandler, PublicHandler
from tornado_app.handlers.openapi.operation import Content, operation

# A `_created` series beside every counter and histogram would double what is scraped, and nobody reads it.
disable_created_metrics()  # type: ignore[no-untyped-call]


class LiveHandler(PublicHandler):
    """`GET /health/live`."""

    @operation("live", Health)
    def get(self) -> None:
        """Whether the server answers at all."""
        self.answer(Health("live"))


class HealthHandler(PublicHandler):
    """`GET /health`."""

    @operation("health", Health, problems.UNAVAILABLE)
    async def get(self) -> None:
        """The same as `/health/ready`, for those who look here."""
        await self.services.processes.check_ready()
        self.answer(Health("ready"))


class ReadyHandler(PublicHandler):
    """`GET /health/ready`."""

    @operation("ready", Health, problems.UNAVAILABLE)
    async def get(self) -> None:
        """Whether it can work: the journal takes writes and the server is not stopping."""
        await self.services.processes.check_ready()
        self.answer(Health("ready"))


class MetricsHandler(HeadHandler):
    """`GET /metrics`."""

    def further_token(self) -> str:
        return self.services.access.metrics_token

    @operation("metrics", Content("text/plain"), problems.UNAVAILABLE)
    async def get(self) -> None:
        """Figures for Prometheus, in its text format."""
        await self.services.processes.refresh_metrics()
        self.set_header("Content-Type", CONTENT_TYPE_LATEST)
        self.finish(generate_latest(REGISTRY))
