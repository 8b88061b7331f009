"""Cross-origin requests of browser pages whose origin the settings allow (Fetch standard, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence

from tornado_app.handlers.base import BaseHandler


class CrossOriginHandler(BaseHandler):
    """Answers preflights and lets pages read headers. Subclasses name the headers."""

    EXPOSED: Sequence[str] = ()
    """Headers of answers that a page may read."""
    ACCEPTED: Sequence[str] = ()
    """Headers of requests that a page may send."""

    def allow_cross_origin(self, origin: str) -> None:
        super().allow_cross_origin(origin)
        if self.EXPOSED:
            self.set_header("Access-Control-Expose-Headers", ", ".join(self.EXPOSED))

    def options(self, *args: str, **kwargs: str) -> None:
        """What can be done here; for a preflight, that it may be."""
        methods = ", ".join(self.allowed_methods())
        self.set_status(204)
        self.set_header("Allow", methods)
        if self.is_preflight:
            self.set_header("Access-Control-Allow-Methods", methods)
            self.set_header("Access-Control-Allow-Headers", ", ".join(("Authorization", *self.ACCEPTED)))
            self.set_header("Access-Control-Max-Age", "86400")
