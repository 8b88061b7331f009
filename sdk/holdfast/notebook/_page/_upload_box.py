"""A box that takes files in the browser and uploads them to the server, resumable, of any size.

The view sends them by tus, to the address at which the page reaches the server; where there is none, the kernel's relay
passes them on. The kernel confirms each file with its own server.
"""

from __future__ import annotations

from typing import Any

import traitlets

from holdfast import calls, plans
from holdfast._client.core import AnyClient, AnyCore, core_of
from holdfast.errors import Gone, NotFound
from holdfast.notebook._page import _bundle
from holdfast.notebook._page._questions import Question, Rejected, Response
from holdfast.notebook._page._relay import Relay
from holdfast.notebook._page._widget import PageWidget
from holdfast.notebook._renderer import assign_traits, kernel_renderer
from holdfast.plans import Retries

_FEW = Retries(attempts=2)


class UploadBox(PageWidget):
    """Box for files, dropped or chosen. Each upload can be paused, resumed and cancelled, also after a page reload.

    Args:
        client: client of the server that gets the files.
        prefix: put before the name of each file, such as `"raw/"`.
        overwrite: replace files of the same name. Without it the box asks.
        limit: most bytes of a file that goes through the kernel; None for any number.
    """

    _esm = _bundle.with_tus(_bundle.bundle("upload_box/view.js"))
    _css = _bundle.text("upload_box/upload_box.css")

    server = traitlets.Unicode().tag(sync=True)
    prefix = traitlets.Unicode().tag(sync=True)
    overwrite = traitlets.Bool().tag(sync=True)
    files = traitlets.Tuple(
        help="files that this box has uploaded, as `holdfast.wire.FileInfo`; observe it to use each new file"
    )

    def __init__(
        self, client: AnyClient | AnyCore, prefix: str = "", *, overwrite: bool = False, limit: int | None = None
    ) -> None:
        core = core_of(client)
        super().__init__(core, server=core.connection.shown_url, prefix=prefix, overwrite=overwrite)
        self.limit = limit
        self._relay = Relay(core)
        self._renderer = kernel_renderer()

    def close(self) -> None:
        """Remove it from the page. Its uploads stop; run the cell again to continue them."""
        self._relay.end()
        super().close()

    def _repr_mimebundle_(self, **options: Any) -> Any:
        bundle = super()._repr_mimebundle_(**options)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        said = "Box for uploads: run the cell to use it"
        return {**(data or {}), "text/html": said, "text/plain": f"UploadBox({self.prefix!r}): {said}"}, metadata

    def _respond(self, question: Question) -> None:
        content = question.content
        if "piece" in content:
            self._relay.append(question)
        elif "begin" in content:
            self._start(question, lambda: self._begin(content))
        elif "confirm" in content:
            self._start(question, lambda: self._confirm(content["confirm"], content["name"], content["size"]))
        elif "inspect" in content:
            self._start(question, lambda: {"uploads": {id: self._inspect(id) for id in content["inspect"]}})
        elif "discard" in content:
            self._start(question, lambda: self._discard(content["discard"]))

    def _begin(self, content: dict[str, Any]) -> Response:
        size: int = content["size"]
        if self.limit is not None and size > self.limit:
            raise Rejected(f"this file has {size} bytes, and at most {self.limit} go through the kernel")
        return self._relay.begin(content["begin"], size, content["upload"], overwrite=content["overwrite"])

    def _confirm(self, upload: str, name: str, size: int) -> Response:
        """Return once the server has confirmed that this upload is complete, and is the file of this name and size."""
        try:
            state = self._request(calls.get_upload(upload), _FEW)
        except (NotFound, Gone):
            raise Rejected("the kernel's server does not have this upload") from None
        if (state.name, state.length, state.complete) != (name, size, True):
            raise Rejected(f"the kernel's server has {state.offset} of {size} bytes of {name!r}", again=True)
        try:
            info = self._run(plans.info(name, _FEW))
        except NotFound:
            return {"note": "deleted since"}
        if info.size != size:
            return {"note": "replaced since"}
        self._renderer.call(lambda: assign_traits(self, {"files": (*self.files, info)}))
        return {"note": ""}

    def _inspect(self, upload: str) -> Response | None:
        try:
            state = self._request(calls.get_upload(upload))
        except (NotFound, Gone):
            return None
        return {"offset": state.offset, "complete": state.complete}

    def _discard(self, upload: str) -> Response:
        self._run(plans.forget(calls.delete_upload(upload), _FEW))
        return {}
