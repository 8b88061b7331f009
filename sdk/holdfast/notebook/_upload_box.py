"""A box that takes files in the browser and uploads them directly to the server, resumable, of any size.

tus-js-client sends the bytes from the page to the server. The kernel gives the page the token and is notified of
finished files. If the page can't reach the server, the pieces go through the kernel's comm.
"""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import anywidget
import traitlets

from holdfast import calls, plans
from holdfast._client.core import AnyClient, AnyCore, core_of
from holdfast._endpoints.call import Call, T
from holdfast._http import SyncDriver
from holdfast.errors import Conflict, HoldfastError, TransportError
from holdfast.notebook._feed._registry import driver_of
from holdfast.notebook._renderer import assign_traits, kernel_renderer
from holdfast.plans import Retries, Stop

LIMIT = 100_000_000
"""Most bytes of a file that goes through the kernel, if the page can't reach the server."""

_STATIC = files("holdfast") / "web"


def _esm() -> str:
    """Return the view and its tus client as one module, so that the page loads nothing from elsewhere."""
    tus = (_STATIC / "tus.min.js").read_text("utf-8").partition("\n//# sourceMappingURL")[0]
    view = (_STATIC / "upload_box.js").read_text("utf-8")
    # The client is a UMD bundle: it puts its exports into `module`, if there is one.
    wrapped = f"const tus = (() => {{ const module = {{ exports: {{}} }}, exports = module.exports;\n{tus}\n"
    return f"{wrapped}return module.exports; }})();\n{view}"


class UploadBox(anywidget.AnyWidget):
    """Box for files, dropped or chosen. Each upload can be paused, resumed and cancelled, also after a page reload.

    Args:
        client: client of the server that gets the files.
        prefix: put before the name of each file, such as `"raw/"`.
        overwrite: replace files of the same name. Without it they are refused.
        limit: most bytes of a file that goes through the kernel.
    """

    _esm = _esm()
    _css = (_STATIC / "upload_box.css").read_text("utf-8")

    endpoint = traitlets.Unicode().tag(sync=True)
    prefix = traitlets.Unicode().tag(sync=True)
    overwrite = traitlets.Bool().tag(sync=True)
    limit = traitlets.Int(LIMIT).tag(sync=True)
    files = traitlets.Tuple(
        help="files that this box has uploaded, as `holdfast.wire.FileInfo`; observe it to use each new file"
    )

    def __init__(
        self, client: AnyClient | AnyCore, prefix: str = "", *, overwrite: bool = False, limit: int = LIMIT
    ) -> None:
        core = core_of(client)
        url = f"{core.base_url}/v1/uploads"
        super().__init__(endpoint=url, prefix=prefix, overwrite=overwrite, limit=limit)
        self._driver = driver_of(core)
        self._client_closed = core.closed
        self._relays: dict[str, _Relay] = {}
        self._renderer = kernel_renderer()
        self.on_msg(_MessageHandler(self))

    def close(self) -> None:
        """Remove it from the page. Uploads that the page itself sends continue until the page is closed."""
        for relay in self._relays.values():
            relay.end()
        self._relays.clear()
        super().close()

    def _handle(self, message: dict[str, Any], buffers: list[memoryview]) -> None:
        """Handle a message of the page. Runs on any thread and must not block."""
        if "done" in message:
            _start_thread(self._add_file, message["done"])
        elif self._client_closed.is_set():
            self._reply(message["id"], error="the client of this box was closed. Make a new client and a new box")
        elif "token" in message:
            self._reply(message["id"], token=self._token())
        elif "begin" in message:
            relay = self._relays[message["key"]] = self._relays.get(message["key"]) or _Relay(self, message)
            relay.enqueue(message["id"], relay.begin)
        elif message.get("key") in self._relays:
            relay = self._relays[message["key"]]
            if "piece" in message:
                data, offset = bytes(buffers[0]), message["piece"]
                relay.enqueue(message["id"], lambda: relay.append(offset, data))
            else:
                del self._relays[message["key"]]
                relay.enqueue(message["id"], relay.discard)
        else:
            self._reply(message["id"], error="the kernel was restarted. Choose the file again")

    def _token(self) -> str | None:
        return self._driver.connection.current_token() or None

    def _reply(self, id: str, **content: Any) -> None:
        self._on_loop(lambda: self.send({"id": id, **content}))

    def _add_file(self, name: str) -> None:
        """Add a finished file to `files`, as the server describes it."""
        try:
            with self._driver.session(Stop()) as driver:
                info = driver.run(plans.info(name, Retries(attempts=3)))
        except HoldfastError:
            return  # deleted since
        self._on_loop(lambda: assign_traits(self, {"files": (*self.files, info)}))

    def _on_loop(self, function: Callable[[], Any]) -> None:
        self._renderer.call(function)


class _MessageHandler:
    """Passes messages to a box. It has a weak reference, so that an unused box is collected."""

    def __init__(self, box: UploadBox) -> None:
        self._box = weakref.ref(box)

    def __call__(self, widget: Any, message: dict[str, Any], buffers: list[memoryview]) -> None:
        if (box := self._box()) is not None:
            box._handle(message, buffers)


class _Relay:
    """Upload of one file through the kernel. A thread of its own sends the requests, one after another."""

    def __init__(self, box: UploadBox, message: dict[str, Any]) -> None:
        self._box = weakref.ref(box)
        weakref.finalize(box, self.end).atexit = False
        self._driver: SyncDriver = box._driver
        self._name: str = message["begin"]
        self._size: int = message["size"]
        self._overwrite = box.overwrite
        self._limit = box.limit
        self._id = ""
        self._work: queue.SimpleQueue[tuple[str, Callable[[], dict[str, Any]]] | None] = queue.SimpleQueue()
        _start_thread(self._run)

    def enqueue(self, id: str, step: Callable[[], dict[str, Any]]) -> None:
        """Run `step` on the thread, and send its result as the answer to message `id`."""
        self._work.put((id, step))

    def end(self) -> None:
        """End the thread after the steps that are queued."""
        self._work.put(None)

    def _run(self) -> None:
        with self._driver.session(Stop()) as self._driver:
            while (work := self._work.get()) is not None:
                id, step = work
                try:
                    answer = step()
                except HoldfastError as error:
                    answer = {"error": str(error)}
                if (box := self._box()) is None:
                    return
                box._reply(id, **answer)
                if answer.get("end"):
                    return
                del box

    def begin(self) -> dict[str, Any]:
        """Create the upload, or return its offset."""
        if self._size > self._limit:
            return {"error": f"this file has {self._size} bytes, and at most {self._limit} go through the kernel"}
        if not self._id:
            overwrite = "true" if self._overwrite else None
            metadata = calls.tus_metadata(filename=self._name, overwrite=overwrite)
            self._id = self._request(calls.create_upload(length=self._size, metadata=metadata)).id
            return self._position(0)
        return self._position(self._request(calls.upload_head(self._id)).offset)

    def append(self, offset: int, data: bytes) -> dict[str, Any]:
        """Send a piece. If the answer is lost or the offset does not match, return the offset that the server has."""
        try:
            return self._position(self._request(calls.append(self._id, offset, data)).offset)
        except (TransportError, Conflict):
            return self._position(self._request(calls.upload_head(self._id)).offset)

    def discard(self) -> dict[str, Any]:
        """Cancel the upload."""
        if self._id:
            self._request(calls.delete_upload(self._id))
        return {"end": True}

    def _position(self, offset: int) -> dict[str, Any]:
        return {"offset": offset, "end": offset >= self._size}

    def _request(self, call: Call[T]) -> T:
        return self._driver.run(plans.request(call, Retries()))


def _start_thread(work: Callable[..., None], *args: Any) -> None:
    threading.Thread(target=work, args=args, name="holdfast-upload-box", daemon=True).start()
