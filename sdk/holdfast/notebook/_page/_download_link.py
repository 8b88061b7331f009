"""View of a download link: the address that works from the page, else the file through the kernel."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl

import traitlets

from holdfast._client.core import AnyCore
from holdfast._client.download_link import DownloadLink
from holdfast._endpoints.call import Call, CallResponse, Endpoint
from holdfast.errors import ProtocolError, RangeNotSatisfiable
from holdfast.notebook._page import _bundle
from holdfast.notebook._page._questions import Question, Response
from holdfast.notebook._page._widget import PageWidget
from holdfast.plans import Retries

_FEW = Retries(attempts=2)
_SIGNED = Endpoint("signed_link", "GET", "", None, bytes, repeatable=True)


class DownloadLinkView(PageWidget):
    """View of one link. It fetches the file through the kernel only if the page can't reach the server."""

    _esm = _bundle.bundle("download_link/view.js")

    name = traitlets.Unicode().tag(sync=True)
    path = traitlets.Unicode().tag(sync=True)
    fallback = traitlets.Unicode().tag(sync=True)
    expires = traitlets.Int().tag(sync=True)

    def __init__(self, core: AnyCore, link: DownloadLink) -> None:
        super().__init__(
            core,
            name=link.name,
            path=link.path,
            fallback=link.url if link.url.startswith("http") else "",
            expires=link.expires,
        )

    def _respond(self, question: Question) -> None:
        content = question.content
        if "read" in content:
            self._start(question, lambda: self._read(content["read"], content["length"], content["etag"]))

    def _read(self, begin: int, length: int, etag: str) -> tuple[Response, bytes]:
        """Return a piece of the file, its total size and its entity tag. With `etag`, only of that version."""
        path, _, query = self.path.partition("?")
        pairs = parse_qsl(query, strict_parsing=True)
        headers = {"Range": f"bytes={begin}-{begin + length - 1}"} | ({"If-Match": etag} if etag else {})
        call: Call[tuple[Response, bytes]] = Call(_SIGNED, path, pairs, headers, None, _piece, repeatable=True)
        try:
            return self._request(call, _FEW)
        except RangeNotSatisfiable:
            if begin:
                raise
            return {"total": 0, "etag": ""}, b""


def _piece(response: CallResponse) -> tuple[Response, bytes]:
    total = re.fullmatch(r"bytes \d+-\d+/(\d+)", response.headers.get("content-range", ""))
    if response.status == 206 and total is None:
        raise ProtocolError("a 206 without the size of the file. A proxy on the way changes Content-Range")
    size = int(total[1]) if total is not None else len(response.body)
    return {"total": size, "etag": response.headers.get("etag", "")}, response.body
