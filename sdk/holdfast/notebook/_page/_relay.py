"""Uploads through the kernel: pieces of a page become pieces of an upload, in order, each with its checksum."""

from __future__ import annotations

import base64
import queue
import threading
from contextlib import suppress
from functools import partial

from holdfast import calls, plans
from holdfast._client.core import AnyCore
from holdfast._http import SyncDriver
from holdfast.errors import ChecksumMismatch, Conflict, Gone, NotFound, TransportError
from holdfast.notebook._feed._registry import driver_of
from holdfast.notebook._page._questions import Question, Response, start_thread
from holdfast.plans import Retries, Stop

_FEW = Retries(attempts=2)  # then the view is told, and repeats it
_IDLE = 60.0  # seconds without a piece until the thread of an upload ends


class Relay:
    """Sends the pieces of uploads, each upload on a thread of its own. `end` ends all threads."""

    def __init__(self, core: AnyCore) -> None:
        self._driver = driver_of(core)
        self._lines: dict[str, _Line] = {}

    def begin(self, name: str, size: int, upload: str, *, overwrite: bool) -> Response:
        """Return the id and offset of an upload: of an earlier one that the server still has, else of a new one."""
        with self._driver.session(Stop()) as driver:
            if upload:
                try:
                    head = driver.run(plans.request(calls.upload_head(upload), _FEW))
                except (NotFound, Gone):
                    pass
                else:
                    return {"upload": upload, "offset": head.offset}
            metadata = calls.tus_metadata(filename=name, overwrite="true" if overwrite else None)
            created = driver.run(plans.request(calls.create_upload(length=size, metadata=metadata), _FEW))
            return {"upload": created.id, "offset": 0}

    def append(self, question: Question) -> None:
        """Send a piece after those before it, and answer with the offset that the server has then. Does not block."""
        upload: str = question.content["upload"]
        line = self._lines.get(upload)
        if line is None or not line.put(question):
            line = self._lines[upload] = _Line(self._driver, upload)
            line.put(question)

    def end(self) -> None:
        """End the threads after the pieces that they have."""
        for line in self._lines.values():
            line.end()
        self._lines.clear()


class _Line:
    """Queue of the pieces of one upload, for a thread that ends when no more come."""

    def __init__(self, driver: SyncDriver, upload: str) -> None:
        self._upload = upload
        self._questions: queue.SimpleQueue[Question | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._ended = False
        start_thread(self._run, driver)

    def put(self, question: Question) -> bool:
        """Queue a piece; return False if the thread has ended."""
        with self._lock:
            if not self._ended:
                self._questions.put(question)
            return not self._ended

    def end(self) -> None:
        """End the thread after the pieces that are queued."""
        self._questions.put(None)

    def _run(self, driver: SyncDriver) -> None:
        with driver.session(Stop()) as session:
            while (question := self._next()) is not None:
                question.run(partial(self._append, session, question))
                del question  # it would be kept until the next one comes

    def _next(self) -> Question | None:
        with suppress(queue.Empty):
            return self._questions.get(timeout=_IDLE)
        with self._lock:
            self._ended = self._questions.empty()
        return None if self._ended else self._questions.get()

    def _append(self, driver: SyncDriver, question: Question) -> Response:
        """Append a piece. If the response is lost or the piece does not fit, return the offset that the server has."""
        content = question.content
        checksum = f"crc32 {base64.b64encode(content['crc32'].to_bytes(4, 'big')).decode()}"
        call = calls.append(self._upload, content["piece"], question.buffers[0], checksum=checksum)
        try:
            return {"offset": driver.run(plans.request(call, _FEW)).offset}
        except Conflict as error:
            if error.type.endswith("/file-exists"):
                raise
        except (TransportError, ChecksumMismatch):
            pass
        return {"offset": driver.run(plans.request(calls.upload_head(self._upload), _FEW)).offset}
