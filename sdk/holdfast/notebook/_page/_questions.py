"""Questions of a view to its kernel, each answered on a thread.

The response is sent in the context of the question: front ends that show messages only while something runs (Colab)
then take it, and ipykernel lets the view go on with the subshell that it has chosen.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import anywidget

from holdfast import plans
from holdfast.errors import APIError, HoldfastError, TransportError
from holdfast.notebook._renderer import reset_reply_subshell

_log = logging.getLogger(__name__)

Response = dict[str, Any]


class Rejected(Exception):
    """A question that is answered with an error. `kind` is that of the server's problem, such as "file-exists"."""

    def __init__(self, message: str, *, again: bool = False, kind: str = "") -> None:
        super().__init__(message)
        self.again = again
        self.kind = kind

    @classmethod
    def of(cls, error: HoldfastError) -> Rejected:
        """Translate an error of the client. `again` is true if a later attempt may succeed."""
        if isinstance(error, TransportError):
            return cls(f"the kernel's server does not answer ({error})", again=True)
        if isinstance(error, APIError):
            again = plans.may_repeat(error, repeatable=True) or error.status in (404, 410)
            return cls(str(error), again=again, kind=error.type.rpartition("/")[2])
        return cls(str(error))


@dataclass(frozen=True)
class Question:
    """A message of the view that wants an answer. `respond` may be called on any thread, once."""

    content: dict[str, Any]
    buffers: list[bytes]
    _widget: weakref.ref[anywidget.AnyWidget]
    _context: contextvars.Context = field(default_factory=contextvars.copy_context)

    def respond(self, *buffers: bytes, **content: Any) -> None:
        """Send the answer to the view. A widget that was closed meanwhile sends nothing."""
        widget = self._widget()
        if widget is None or widget.comm is None:
            return
        # Not "id": ipykernel keeps the subshell of each "id" until a message of the page has the same.
        message = {**content, "answers": self.content["ask"]}
        self._context.run(widget.send, message, list(buffers) or None)
        reset_reply_subshell(widget)

    def run(self, work: Callable[[], Response | tuple[Response, bytes]]) -> None:
        """Response with the result of `work`, or with its error."""
        try:
            result = work()
        except Rejected as error:
            self.respond(error=str(error), again=error.again, kind=error.kind)
        except HoldfastError as error:
            rejected = Rejected.of(error)
            self.respond(error=str(rejected), again=rejected.again, kind=rejected.kind)
        except Exception as error:  # a bug, or a token that can't be sent: the view must not wait for ever
            self.respond(error=f"{type(error).__name__}: {error}")
            _log.exception("a question of a page failed")
        else:
            content, *buffers = result if isinstance(result, tuple) else (result,)
            self.respond(*buffers, **content)


def start_thread(work: Callable[..., None], *args: Any) -> None:
    """Run `work` on a thread of its own."""
    threading.Thread(target=work, args=args, name="holdfast-page", daemon=True).start()
