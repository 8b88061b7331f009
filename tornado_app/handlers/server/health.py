"""`/health`, `/health/live`, `/health/ready` and `/metrics`, for operators."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, disable_created_metrics, generate_latest

from holdfast.wire import Health
from tornado_app import problems
from tornado_app.handlers.base import HeadHandler, PublicHandler
from tornado_app.handlers.openapi.operation import Content, operation

# A `_created` series beside every counter and histogram would double the number of series.
disable_created_metrics()  # type: ignore[no-untyped-call]


class LiveHandler(PublicHandler):
    """`GET /health/live`."""

    IS_PROBE = True

    @operation("live", Health)
    def get(self) -> None:
        """Return 200 as long as the server answers."""
        self.respond(Health("live"))


class HealthHandler(PublicHandler):
    """`GET /health`."""

    IS_PROBE = True

    @operation("health", Health, problems.UNAVAILABLE)
    async def get(self) -> None:
        """Return the same as `/health/ready`."""
        await self.services.processes.check_ready()
        self.respond(Health("ready"))


class ReadyHandler(PublicHandler):
    """`GET /health/ready`."""

    IS_PROBE = True

    @operation("ready", Health, problems.UNAVAILABLE)
    async def get(self) -> None:
        """Return 200 if the journal can be written and the server is not stopping."""
        await self.services.processes.check_ready()
        self.respond(Health("ready"))


class MetricsHandler(HeadHandler):
    """`GET /metrics`."""

    IS_PROBE = True

    def further_token(self) -> str:
        return self.services.access.metrics_token

    def on_admitted(self) -> None:
        if self.services.settings.per_user and self.principal.name and not self.principal.admin:
            raise problems.FORBIDDEN(
                "the metrics are of all users. Read them with the token of --metrics-token, or as an admin of the hub"
            )

    @operation("metrics", Content("text/plain"), problems.UNAVAILABLE)
    async def get(self) -> None:
        """Return the metrics in the text format of Prometheus."""
        await self.services.processes.refresh_metrics()
        self.set_header("Content-Type", CONTENT_TYPE_LATEST)
        self.finish(generate_latest(REGISTRY))
