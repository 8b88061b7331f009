"""Base of the seed's endpoints: tolerant slashes, known parameters, and the statuses 200, 400, 404 and 500."""

from __future__ import annotations

from operator import methodcaller
from typing import TypeVar

from tornado_app.handlers.base import BaseHandler
from tornado_app.handlers.openapi import query
from tornado_app.problems import Kind

T = TypeVar("T")

_ACCESS = (401, 403, 405, 421)  # statuses of checks that come before the endpoint


class SeedHandler(BaseHandler):
    """An endpoint of the seed."""

    @classmethod
    def status_of(cls, kind: Kind) -> int:
        if kind.status in (404, *_ACCESS):
            return kind.status
        return 500 if kind.status >= 500 else 400

    def query_as(self, type: type[T]) -> T:
        """Return the query as a struct; an empty parameter counts as left out."""
        given = self.query_texts()
        for values in given.values():
            while "" in values:
                values.remove("")
        return query.read(type, given)

    def query_texts(self) -> dict[str, list[str]]:
        """Return every query argument, without the slash that the seed writes after the query."""
        given = super().query_texts()
        for values in given.values():
            values[:] = map(_without_slash, values)
        return given


_without_slash = methodcaller("removesuffix", "/")
