"""What the seed's endpoints share: tolerant slashes, known parameters, and the statuses 200, 400, 404 and 500."""

from __future__ import annotations

from typing import TypeVar

from tornado_app.handlers.base import BaseHandler
from tornado_app.handlers.openapi import query
from tornado_app.problems import Kind

T = TypeVar("T")

_GUARDS = (401, 403, 405, 421)  # these come before the endpoint and stay as they are


class SeedHandler(BaseHandler):
    """An endpoint of the seed."""

    @classmethod
    def status_of(cls, kind: Kind) -> int:
        if kind.status in (404, *_GUARDS):
            return kind.status
        return 500 if kind.status >= 500 else 400

    def query_as(self, type: type[T]) -> T:
        """As everywhere, but a parameter that is empty is taken as left out."""
        given = self.query_texts().items()
        return query.read(type, {name: [value for value in values if value] for name, values in given})

    def query_texts(self) -> dict[str, list[str]]:
        """Without the slash that the seed writes after the query."""
        return {name: [value.removesuffix("/") for value in values] for name, values in super().query_texts().items()}
