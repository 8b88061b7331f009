"""What the seed's endpoints share: tolerant slashes, known parameters, and the statuses 200, 400, 404 and 500."""

from __future__ import annotations

from collections.abc import Collection

from tornado_app import problems
from tornado_app.handlers.base import BaseHandler
from tornado_app.problems import ProblemError

_GUARDS = (401, 403, 405, 421)  # these come before the endpoint and stay as they are
_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class SeedHandler(BaseHandler):
    """An endpoint of the seed."""

    def status_of(self, problem: ProblemError) -> int:
        status = problem.kind.status
        if status in (404, *_GUARDS):
            return status
        return 500 if status >= 500 else 400

    def one(self, name: str, default: str | None = None) -> str | None:
        """A query parameter, at most once, without the slash that the seed writes after the query."""
        value = super().one(name, default)
        return value if value is None else value.removesuffix("/")

    def seed_arguments(self, known: Collection[str] | None = None) -> dict[str, str]:
        """Every query parameter by name. Raises BAD_PARAMETERS for one that is not `known`, if that is given."""
        if known is not None:
            self.only(*known)
        return {name: self.one(name) or "" for name in self.request.query_arguments}

    def required(self, name: str) -> str:
        """A parameter that must be there. Raises BAD_PARAMETERS."""
        value = self.one(name)
        if not value:
            raise problems.BAD_PARAMETERS(f"{name} is missing: add {name}=... to the query", field=name)
        return value

    def count(self, name: str, default: int | None = None) -> int | None:
        """A parameter that is a whole number from 0. Raises BAD_PARAMETERS."""
        value = self.one(name)
        if value is None or value == "":
            return default
        if not (value.isascii() and value.isdigit() and len(value) <= 18):
            raise problems.BAD_PARAMETERS(f"{name} must be a whole number of bytes from 0, not {value!r}", field=name)
        return int(value)

    def truth(self, name: str) -> bool:
        """A parameter that is true or false; left out it is false. Raises BAD_PARAMETERS."""
        value = self.one(name)
        if value is None or value == "":
            return False
        if value.lower() not in _TRUTH:
            raise problems.BAD_PARAMETERS(f"{name} must be true or false, not {value!r}", field=name)
        return _TRUTH[value.lower()]
