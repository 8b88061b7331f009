"""Downloads: what GET of a file and of an archive share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import ClassVar, Protocol

from prometheus_client import Counter
from tornado.iostream import StreamClosedError

from tornado_app import problems
from tornado_app.files import metrics
from tornado_app.handlers.files.named import LinkedHandler, LinkQuery
from tornado_app.server.sendfile import FileChangedError, StalledError


class Sending(Protocol):
    """Body on its way to a client."""

    def abort(self) -> None:
        """End it, because the client has left."""
        ...


class DownloadHandler(LinkedHandler):
    """Sends a file or an archive, which has an entity tag of its own; a signed link may open it."""

    MAY_BE_VISITED = True
    IS_ARCHIVE: ClassVar[bool] = False

    _sending: Sending | None = None

    def is_signed(self) -> bool:
        if self.request.method not in ("GET", "HEAD"):
            return False
        link = self.query_as(LinkQuery)
        if link.signature is None:
            return False
        name = self.path_kwargs["name"]
        why = self.services.links.refusal(name, link.expires, link.signature, archive=self.IS_ARCHIVE)
        if why:
            raise problems.UNAUTHORIZED(why)
        return True

    def set_headers(self, status: int, headers: Mapping[str, str]) -> None:
        """Set the status, and headers whose values have no line breaks."""
        self.set_status(status)
        for name, value in headers.items():
            self._headers[name] = value  # set_header would check for line breaks

    async def send_body(self, sending: Sending, body: Callable[[], Awaitable[None]]) -> None:
        """Send a body whose headers are flushed. A body that can't be sent whole ends with the connection."""
        self._sending = sending
        try:
            if self.lost:
                raise StreamClosedError
            await body()
            self.count_completed()
        except StreamClosedError:
            self._cut(metrics.DOWNLOAD_CUT)  # sendfile may know before the stream does
        except StalledError:
            self._cut(metrics.DOWNLOAD_STALLED)
        except FileChangedError:
            self._cut(metrics.DOWNLOAD_CHANGED)
        finally:
            self._sending = None

    def _cut(self, reason: Counter) -> None:
        """Close the connection before the body is whole: nobody takes it for the whole."""
        reason.inc()
        self.request.connection.close()  # type: ignore[union-attr]

    def count_completed(self) -> None:
        """Count a download that came to its end."""
        metrics.DOWNLOAD_COMPLETE.inc()
        metrics.DOWNLOAD_SECONDS.observe(self.request.request_time())

    def on_lost(self) -> None:
        super().on_lost()
        if self._sending is not None:
            self._sending.abort()

    def compute_etag(self) -> None:
        """Return none: the representation has its own, and Tornado would hash the body."""

    def check_etag_header(self) -> bool:
        return False  # preconditions are already evaluated
