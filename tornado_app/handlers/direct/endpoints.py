"""The requests that are answered directly, one function each. None means: this one is for the handlers."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

import msgspec
from tornado.http1connection import HTTP1Connection
from tornado.httputil import HTTPHeaders

from tornado_app.files import metrics
from tornado_app.files.uploads.writer import Writer
from tornado_app.handlers.base import AppServices
from tornado_app.handlers.files.representation import describe
from tornado_app.handlers.uploads.messages import UploadRequest, UploadResponse
from tornado_app.handlers.uploads.protocol import wanted_digest
from tornado_app.handlers.uploads.tus import Tus
from tornado_app.problems import ProblemError
from tornado_app.protocols import tus
from tornado_app.server.long_bodies import BodyStream
from tornado_app.server.response import Response

SMALL_BODY = 64 << 10
"""Bytes of a body that is taken directly, if all of it came with the head."""

DIGITS = len(str(SMALL_BODY))
_TUS = {"Tus-Resumable": tus.VERSION}


class Request(NamedTuple):
    """A request whose head was read and admitted; `rest` of its path names the resource, still percent-encoded."""

    method: str
    rest: str
    headers: HTTPHeaders
    connection: HTTP1Connection
    services: AppServices


@dataclass(frozen=True, slots=True)
class Accepted:
    """A request that is answered directly.

    `response` is the answer, or what makes it from the body. `problem` puts a refusal in the terms of its protocol.
    `completes_download`: the response is a whole download.
    """

    response: Response | Callable[[list[bytes]], Awaitable[Response]]
    problem: Callable[[ProblemError], ProblemError] | None = None
    completes_download: bool = False


def get_file(request: Request) -> Accepted | None:
    """`GET` and `HEAD /v1/files/{name}`: a file that is in memory, small for a GET."""
    if "Content-Length" in request.headers:
        return None
    name = request.rest
    if "%" in name:
        name = unquote_to_bytes(name).decode("utf-8", "surrogateescape")
    is_head = request.method == "HEAD"
    published, headers = request.services.files.published, request.headers
    answer = (published.head_at_once if is_head else published.get_at_once)(name, headers)
    if answer is None:
        return None
    described, _ = describe(answer, headers.get("Want-Repr-Digest"))
    if not is_head:
        if answer.content is None:
            metrics.DOWNLOAD_NOT_MODIFIED.inc()
        else:
            metrics.SENT.inc(len(answer.content))
    response = Response(answer.status, described, answer.content or b"")
    return Accepted(response, completes_download=answer.content is not None)


def get_process(request: Request) -> Accepted | None:
    """`GET /v1/processes/{id}` of a process that runs."""
    if "Content-Length" in request.headers or "If-None-Match" in request.headers:
        return None
    process = request.services.processes.get_running(request.rest)
    if process is None:
        return None
    body = msgspec.json.encode(process)
    etag = f'"{hashlib.sha1(body, usedforsecurity=False).hexdigest()}"'  # as RequestHandler.compute_etag
    return Accepted(Response(200, {"Content-Type": "application/json", "ETag": etag}, body))


def use_upload(request: Request) -> Accepted | None:
    """`HEAD` and `PATCH /v1/uploads/{id}` by tus, while nobody else writes; a PATCH whose body came with its head."""
    headers, uploads = request.headers, request.services.files.uploads
    upload = uploads.find(request.rest)
    if upload is None or "Tus-Resumable" not in headers or uploads.current_writer(upload) is not None:
        return None
    stream = request.connection.stream
    if request.method == "HEAD":
        size = 0
        if "Content-Length" in headers:
            return None
    else:
        length = headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit() and len(length) <= DIGITS and isinstance(stream, BodyStream)):
            return None
        size = int(length)
        if size > min(SMALL_BODY, stream.buffered):
            return None
        request.connection.set_body_timeout(None)  # type: ignore[arg-type]  # it is here
    message = UploadRequest(
        request.method,
        headers,
        content_length=size,
        is_lost=stream.closed,
        on_release_requested=stream.close,
    )
    protocol = Tus(message, uploads, request.services.settings.max_upload_size)

    async def head(_: list[bytes]) -> Response:
        return of_upload(await protocol.head(request.rest))

    async def patch(body: list[bytes]) -> Response:
        receiver = await protocol.begin_append(request.rest)
        await _write(receiver.writer, body)
        return of_upload(await protocol.appended())

    def of_upload(response: UploadResponse) -> Response:
        return Response(response.status, _TUS | wanted_digest(uploads) | dict(response.headers), response.body)

    def problem(error: ProblemError) -> ProblemError:
        return protocol.problem(error).with_headers(_TUS | wanted_digest(uploads))

    return Accepted(head if request.method == "HEAD" else patch, problem)


async def _write(writer: Writer | None, body: list[bytes]) -> None:
    if writer is not None:
        for piece in body:
            room = writer.write(piece)
            if room is not None:
                await room
