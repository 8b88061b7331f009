"""The upload protocol that a request speaks, decided by its method and headers. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from tornado_app.handlers.uploads.ietf import ResumableUpload
from tornado_app.handlers.uploads.protocol import UploadProtocol
from tornado_app.handlers.uploads.single_request import SingleRequest
from tornado_app.handlers.uploads.tus import Tus
from tornado_app.protocols import parameters, resumable_uploads, tus


@dataclass(frozen=True)
class Choice:
    """A protocol and the method that the request means.

    `replaces_head`: the method is HEAD by X-HTTP-Method-Override, so that an answer with content would not be read.
    """

    protocol: type[UploadProtocol]
    method: str
    replaces_head: bool = False


def is_tus(method: str, headers: Mapping[str, str]) -> bool:
    """Return whether a request can only be tus 1.0.0; OPTIONS is answered for both protocols."""
    if "Tus-Resumable" in headers or method == "OPTIONS":
        return True
    if parameters.media_type(headers.get("Content-Type", "")) == tus.MEDIA_TYPE:
        return True
    return method == "POST" and any(name in headers for name in tus.CREATING)


def choose(method: str, headers: Mapping[str, str], methods: Collection[str]) -> Choice:
    """Return the protocol of a request. `methods` are those that X-HTTP-Method-Override (tus 1.0.0) may name."""
    if is_tus(method, headers):
        override = headers.get("X-HTTP-Method-Override", "").upper()
        if override in methods and method != "HEAD":  # the answer to a HEAD has no content
            return Choice(Tus, override, replaces_head=override == "HEAD")
        return Choice(Tus, method)
    if (
        "Upload-Complete" in headers  # even an ill-formed one: it never makes a file
        or resumable_uploads.is_partial_upload(headers.get("Content-Type", ""))
        or method != "POST"
    ):
        return Choice(ResumableUpload, method)
    return Choice(SingleRequest, method)
