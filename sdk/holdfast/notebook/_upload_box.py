"""A box that takes files in the browser and sends them straight to the server, resumable, of any size.

The bytes go by tus-js-client from the page to the server; the kernel lends the token and learns of what is done. Where
the page can't reach the server, pieces go through the kernel's comm.
"""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

from holdfast import calls, plans
from holdfast._endpoints.call import Call, T
from holdfast._http import SyncDriver
from holdfast.errors import Conflict, HoldfastError, TransportError
from holdfast.notebook._feed._feed import driver_of
from holdfast.notebook._renderer import assign, pump
from holdfast.plans import Retries, Stop

if TYPE_CHECKING:
    from holdfast._async.client import AsyncClient
    from holdfast._sync.client import Client

LIMIT = 100_000_000
"""Most bytes of a file that goes through the kernel, where the page can't reach the server."""

_STATIC = files("holdfast") / "web"


def _esm() -> str:
    """The view with the tus client that it uses, as one module: nothing is loaded from elsewhere at run time."""
    tus = (_STATIC / "tus.min.js").read_text("utf-8").partition("\n//# sourceMappingURL")[0]
    view = (_STATIC / "upload_box.js").read_text("utf-8")
    # It is a UMD bundle: given a `module`, it leaves its exports there.
    wrapped = f"const tus = (() => {{ const module = {{ exports: {{}} }}, exports = module.exports;\n{tus}\n"
    return f"{wrapped}return module.exports; }})();\n{view}"


class UploadBox(anywidget.AnyWidget):
    """Takes files by drop or by choosing; each can be paused, resumed and cancelled, also after the page was reloaded.

    Args:
        client: whose server the files go to.
        prefix: what is put before each file's name, such as `"raw/"`.
        overwrite: files of the same name are replaced; else they are refused.
        limit: most bytes of a file that goes through the kernel.
    """

    _esm = _esm()
    _css = (_STATIC / "upload_box.css").read_text("utf-8")

    endpoint = traitlets.Unicode().tag(sync=True)
    prefix = traitlets.Unicode().tag(sync=True)
    overwrite = traitlets.Bool().tag(sync=True)
    limit = traitlets.Int(LIMIT).tag(sync=True)
    files = traitlets.Tuple(
        help="what was uploaded by this box so far, as `holdfast.wire.FileInfo`; observe it to go on with a file"
    )

    def __init__(
        self, client: Client | AsyncClient, prefix: str = "", *, overwrite: bool = False, limit: int = LIMIT
    ) -> None:
        url = f"{client.base_url}/v1/uploads"
        super().__init__(endpoint=url, prefix=prefix, overwrite=overwrite, limit=limit)
        self._driver = driver_of(client)
        self._client_closed = client._closed
        self._relays: dict[str, _Relay] = {}
        self._pump = pump()
        self.on_msg(_Heard(self))

    def close(self) -> None:
        """Take it off the page. What the page sends by itself goes on until the page is closed."""
        for relay in self._relays.values():
            relay.end()
        self._relays.clear()
        super().close()

    def _heard(self, message: dict[str, Any], buffers: list[memoryview]) -> None:
        """A message of the page; from any thread, and must not block."""
        if "done" in message:
            _spawn(self._learn, message["done"])
        elif self._client_closed.is_set():
            self._answer(message["id"], error="the client of this box was closed: nothing is sent any more")
        elif "token" in message:
            self._answer(message["id"], token=self._token())
        elif "begin" in message:
            relay = self._relays[message["key"]] = self._relays.get(message["key"]) or _Relay(self, message)
            relay.put(message["id"], relay.begin)
        elif message.get("key") in self._relays:
            relay = self._relays[message["key"]]
            if "piece" in message:
                data, offset = bytes(buffers[0]), message["piece"]
                relay.put(message["id"], lambda: relay.append(offset, data))
            else:
                del self._relays[message["key"]]
                relay.put(message["id"], relay.discard)
        else:
            self._answer(message["id"], error="the kernel was restarted: choose the file again")

    def _token(self) -> str | None:
        return self._driver.connection.current_token() or None

    def _answer(self, id: str, **content: Any) -> None:
        self._on_loop(lambda: self.send({"id": id, **content}))

    def _learn(self, name: str) -> None:
        """A file is done: have it as the server has it."""
        try:
            with self._driver.session(Stop()) as driver:
                info = driver.run(plans.info(name, Retries(attempts=3)))
        except HoldfastError:
            return  # deleted again meanwhile
        self._on_loop(lambda: assign(self, {"files": (*self.files, info)}))

    def _on_loop(self, function: Callable[[], Any]) -> None:
        if self._pump is not None:
            self._pump.call(function)
        else:
            function()


class _Heard:
    """What ipywidgets calls for a message. Holds the box weakly: a box that nobody holds goes."""

    def __init__(self, box: UploadBox) -> None:
        self._box = weakref.ref(box)

    def __call__(self, widget: Any, message: dict[str, Any], buffers: list[memoryview]) -> None:
        if (box := self._box()) is not None:
            box._heard(message, buffers)


class _Relay:
    """One file that comes through the kernel. Its requests are sent by a thread of its own, one after another."""

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
        _spawn(self._run)

    def put(self, id: str, step: Callable[[], dict[str, Any]]) -> None:
        """Do `step` and answer question `id` with what it gives."""
        self._work.put((id, step))

    def end(self) -> None:
        """No more will come."""
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
                box._answer(id, **answer)
                if answer.get("end"):
                    return
                del box

    def begin(self) -> dict[str, Any]:
        """Create the upload, or see where it stands."""
        if self._size > self._limit:
            return {"error": f"at most {self._limit} bytes go through the kernel; this file has {self._size}"}
        if not self._id:
            overwrite = "true" if self._overwrite else None
            metadata = calls.tus_metadata(filename=self._name, overwrite=overwrite)
            self._id = self._request(calls.create_upload(length=self._size, metadata=metadata)).id
            return self._at(0)
        return self._at(self._request(calls.upload_head(self._id)).offset)

    def append(self, offset: int, data: bytes) -> dict[str, Any]:
        """Send a piece; when its answer is lost, or it does not fit, the server says where to go on."""
        try:
            return self._at(self._request(calls.append(self._id, offset, data)).offset)
        except (TransportError, Conflict):
            return self._at(self._request(calls.upload_head(self._id)).offset)

    def discard(self) -> dict[str, Any]:
        """Give it up."""
        if self._id:
            self._request(calls.delete_upload(self._id))
        return {"end": True}

    def _at(self, offset: int) -> dict[str, Any]:
        return {"offset": offset, "end": offset >= self._size}

    def _request(self, call: Call[T]) -> T:
        return self._driver.run(plans.request(call, Retries()))


def _spawn(work: Callable[..., None], *args: Any) -> None:
    threading.Thread(target=work, args=args, name="holdfast-upload-box", daemon=True).start()
