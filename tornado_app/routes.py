"""The route table, read from top to bottom: the first line that matches a path takes it."""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Any

from tornado.httputil import HTTPServerRequest
from tornado.routing import Matcher, PathMatches

from tornado_app.handlers import events as event_handlers
from tornado_app.handlers import links as link_handlers
from tornado_app.handlers import processes as process_handlers
from tornado_app.handlers.archives import handler as archive_handlers
from tornado_app.handlers.base import AppServices, BaseHandler
from tornado_app.handlers.digests import files as file_digests
from tornado_app.handlers.digests import uploads as upload_digests
from tornado_app.handlers.files import reading, writing
from tornado_app.handlers.openapi.document import Route
from tornado_app.handlers.seed import files, processes
from tornado_app.handlers.server import docs, health, identity, index, login
from tornado_app.handlers.uploads import blocks as block_handlers
from tornado_app.handlers.uploads import handler as upload_handlers
from tornado_app.identity.hub.client import CALLBACK

ID = r"(?P<id>[^/]+)"


def routes(services: AppServices, *, has_logins: bool = False) -> list[Route]:
    """Every endpoint; the first line that matches a path takes it. `has_logins`: browsers log in at a hub."""
    table: list[tuple[str, type[BaseHandler]]] = [
        # files
        (r"/v1/files/?", reading.FilesHandler),
        (r"/v1/files/(?P<name>.+)", writing.FilePutHandler),
        (r"/v1/files/(?P<name>.+)", reading.FileHandler),
        (r"/v1/archives/(?P<name>.*)", archive_handlers.ArchivePutHandler),
        (r"/v1/archives/(?P<name>.*)", archive_handlers.ArchiveHandler),
        (r"/v1/links", link_handlers.LinksHandler),
        (r"/v1/uploads/?", upload_handlers.UploadsHandler),
        (rf"/v1/uploads/{ID}", upload_handlers.UploadHandler),
        (r"/v1/block-uploads", block_handlers.BlockUploadsHandler),
        (rf"/v1/block-uploads/{ID}", block_handlers.BlockUploadHandler),
        (rf"/v1/block-uploads/{ID}/digests", block_handlers.BlockDigestsHandler),
        (rf"/v1/block-uploads/{ID}/blocks/(?P<first>[^/]+)", block_handlers.BlocksHandler),
        (rf"/v1/block-uploads/{ID}/end", block_handlers.BlockUploadEndHandler),
        (rf"/v1/uploads/{ID}/digests", upload_digests.UploadDigestsHandler),
        (rf"/v1/uploads/{ID}/blocks/(?P<first>[^/]+)", upload_digests.UploadBlocksHandler),
        (r"/v1/digests/(?P<name>.+)", file_digests.FileDigestsHandler),
        (r"/v1/known-content", block_handlers.KnownContentHandler),
        # the seed
        (rf"/{ID}/process/?", processes.SeedProcessHandler),
        (rf"/{ID}/process/(?P<verb>pause|cancel)/?", processes.SeedVerbHandler),
        (rf"/{ID}/process/resume/?", processes.SeedResumeHandler),
        (r"/download/?", files.SeedDownloadHandler),
        (r"/upload/?", files.SeedUploadHandler),
        (r"/upload/cancel/?", files.SeedUploadCancelHandler),
        (r"/health", health.HealthHandler),
        (r"/health/live", health.LiveHandler),
        (r"/health/ready", health.ReadyHandler),
        (r"/metrics", health.MetricsHandler),
        # processes
        (r"/v1/work-types", process_handlers.WorkTypesHandler),
        (r"/v1/processes", process_handlers.ProcessesHandler),
        (r"/v1/processes/(?P<id>pause|resume|cancel|kill)", process_handlers.BulkHandler),
        (rf"/v1/processes/{ID}", process_handlers.ProcessHandler),
        (rf"/v1/processes/{ID}/(?P<verb>pause|resume|cancel|kill)", process_handlers.VerbHandler),
        (rf"/v1/processes/{ID}/log", process_handlers.LogHandler),
        (rf"/v1/processes/{ID}/events", event_handlers.ProcessEventsHandler),
        (r"/v1/events", event_handlers.EventsHandler),
        # the server
        (r"/v1/identity", identity.IdentityHandler),
        # the contract
        (r"/", index.IndexHandler),
        (r"/openapi\.json", docs.OpenApiHandler),
        (r"/docs", docs.DocsHandler),
        (r"/docs/(?P<file>[^/]+)", docs.ViewerHandler),
        (r"/problems/(?P<type>[^/]+)", docs.ProblemHandler),
    ]
    if has_logins:
        table.append((rf"/{CALLBACK}", login.OAuthCallbackHandler))
    return [(pattern, handler, {"services": services}) for pattern, handler in table]


def matcher(base_url: str, path: str, handler: type[BaseHandler]) -> Matcher:
    """Return the matcher of one line of the table below a base URL, for the methods that its handler has."""
    pattern = re.escape(base_url.removesuffix("/")) + path
    return _ForMethods(pattern, handler.ONLY) if handler.ONLY else PathMatches(pattern)


class _ForMethods(PathMatches):
    """Matches a path for some methods only: a handler that streams bodies in is another one than what sends."""

    def __init__(self, pattern: str, methods: Container[str]) -> None:
        super().__init__(pattern)
        self._methods = methods

    def match(self, request: HTTPServerRequest) -> dict[str, Any] | None:
        return super().match(request) if request.method in self._methods else None
