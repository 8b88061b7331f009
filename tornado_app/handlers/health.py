"""`/health/live`, `/health/ready` and `/metrics`: for whoever runs the server."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest

from tornado_app.handlers.base import BaseHandler


class LiveHandler(BaseHandler):
    """`GET /health/live`: the loop turns."""

    def get(self) -> None:
        self.answer({"status": "live"})


class ReadyHandler(BaseHandler):
    """`GET /health/ready`: the journal takes writes and the server is not stopping; else 503 and why."""

    async def get(self) -> None:
        await self.services.processes.check_ready()
        self.answer({"status": "ready"})


class MetricsHandler(BaseHandler):
    """`GET /metrics`."""

    async def get(self) -> None:
        await self.services.processes.refresh_metrics()
        self.set_header("Content-Type", CONTENT_TYPE_LATEST)
        self.finish(generate_latest(REGISTRY))
