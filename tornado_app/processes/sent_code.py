"""Code sent from a notebook: a cloudpickled generator function in place of a work type. Off unless `--allow-code`.

It runs in an OS process of its own, and the journal keeps it, so it survives restarts like any other work.
"""

from __future__ import annotations

import base64
import binascii
import io
import pickle
import sys
from collections.abc import Generator
from typing import Any

import msgspec

from holdfast.wire import StartRequest
from holdfast.work import Job, Progress, WorkError, WorkType, work_type
from tornado_app import problems
from tornado_app.processes.executors import tracebacks

NAME = "code"
MOST_BYTES = 8 << 20
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


class Code(msgspec.Struct):
    """`function` is the name of the sent function, for display; its arguments come with its code."""

    function: str = "function"


def _lost(job: Job[Code]) -> Generator[Progress, None, None]:
    """A generator function that a client sent, called with a job and the arguments that it was sent with."""
    raise WorkError("the journal has lost the code of this process: start it again")


code = WorkType(NAME, _lost, Code, "process")
"""Work type that stands for all sent code in the registry; the child process loads the real one."""


@code.rollback
def roll_back(job: Job[Code]) -> None:
    """Stand for the rollback of the sent code, which the child process loads."""


def check(request: StartRequest, allowed: bool) -> bytes:
    """Return the pickle of a request that carries code.

    Raises:
        ProblemError: FORBIDDEN where code is not allowed; BAD_PARAMETERS for code that can't run here.
    """
    if not allowed:
        raise problems.FORBIDDEN(
            "this server takes no code from clients: start it with --allow-code, or name a work_type"
        )
    if request.work_type not in ("", NAME):
        raise problems.BAD_PARAMETERS("give work_type or code, not both", field="code")
    if request.place not in (None, "process"):
        raise problems.BAD_PARAMETERS("code from a client runs in the place process only", field="place")
    if request.python != PYTHON:
        raise problems.BAD_PARAMETERS(
            f"the code was pickled by Python {request.python}, this server runs {PYTHON}: pickles of functions do not "
            f"cross minor versions, so send it from Python {PYTHON}",
            field="python",
        )
    try:
        pickled = base64.b64decode(request.code or "", validate=True)
    except binascii.Error as error:
        raise problems.BAD_PARAMETERS(f"code is not base64: {error}", field="code") from None
    if not 0 < len(pickled) <= MOST_BYTES:
        raise problems.BAD_PARAMETERS(
            f"code has {len(pickled)} bytes, at most {MOST_BYTES} are taken: send data as a file", field="code"
        )
    return pickled


def load(pickled: bytes) -> WorkType:
    """Return the work type of a pickle of `(function or WorkType, args, kwargs)`. Runs the sender's code.

    A second pickle may follow, with the source lines of that code for `tracebacks.remember`.
    """
    stream = io.BytesIO(pickled)
    function, args, kwargs = pickle.load(stream)  # noqa: S301 - what --allow-code is about
    if stream.tell() < len(pickled):
        tracebacks.remember(pickle.load(stream))  # noqa: S301
    work = function if isinstance(function, WorkType) else work_type(NAME, params=Code, place="process")(function)
    plain = work.function

    def run(job: Job[Any]) -> Any:
        return plain(job, *args, **kwargs)

    return WorkType(
        NAME,
        run,
        Code,
        "process",
        checkpoint=work.checkpoint,
        retry_on=work.retry_on,
        rollback_function=work.rollback_function,
    )
