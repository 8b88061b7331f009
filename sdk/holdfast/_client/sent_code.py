"""Requests that send a function to the server, such as one of a notebook cell."""

from __future__ import annotations

import base64
import inspect
import sys
import threading
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any

from holdfast import wire
from holdfast._client.process_view import new_id
from holdfast._client.source_lines import Sources, functions_of
from holdfast._client.undefined_names import CELL, first_undefined
from holdfast._environment.extras import install_hint
from holdfast._environment.jupyter import place_of
from holdfast.errors import NotSendable
from holdfast.work import WorkType

_pickling = threading.Lock()  # the set of modules pickled by value is global
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def code_request(
    function: Callable[..., Any] | WorkType,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    id: str | None = None,
    labels: Mapping[str, str] | None = None,
    retries: int | None = None,
    deadline: float | None = None,
    priority: int = 0,
) -> wire.StartRequest:
    """Return the request that starts `function(job, *args, **kwargs)`. `retries` defaults to that of its work type.

    Raises:
        NotSendable: it is not a generator function, its arguments do not fit, it uses a name that is defined nowhere,
            or it can't be pickled. The message says how to fix it.
    """
    plain = function.function if isinstance(function, WorkType) else function
    name = getattr(plain, "__name__", "function")
    if retries is None and isinstance(function, WorkType):
        retries = function.retries
    if not inspect.isgeneratorfunction(plain):
        raise NotSendable(f"{name} is not a generator function. Let it yield a Progress wherever it can be stopped")
    try:
        inspect.signature(plain).bind(None, *args, **kwargs)
    except TypeError as error:
        raise NotSendable(f"{name} does not take these arguments (the first is the job): {error}") from None
    for each in functions_of(function):
        if (undefined := first_undefined(each)) is not None:
            raise NotSendable(
                f"line {undefined.line} of {_place(each)} uses {undefined.name!r}, which is not defined. "
                f"{undefined.remedy}"
            )
    return wire.StartRequest(
        params={"function": name},
        id=id or new_id(name),
        priority=priority,
        labels=dict(labels or {}),
        retries=retries,
        deadline_s=deadline,
        code=base64.b64encode(_pickled(name, plain, (function, args, kwargs))).decode(),
        python=PYTHON,
    )


def _place(function: FunctionType) -> str:
    file = function.__code__.co_filename
    return "the cell" if file.startswith(CELL) else place_of(file)


def _pickled(name: str, plain: Any, value: Any) -> bytes:
    try:
        import cloudpickle
    except ImportError:
        raise NotSendable(f"sending code needs cloudpickle: {install_hint('notebook')}") from None
    module = sys.modules.get(getattr(plain, "__module__", ""))
    # By value: the server runs the code of this module as it is here, even if it can import another version.
    by_value = module is not None and module.__name__ != "__main__"
    with _pickling:
        if by_value:
            cloudpickle.register_pickle_by_value(module)
        try:
            return Sources(value[0]).pickled(value)
        except Exception as error:
            raise NotSendable(
                f"{name} can't be sent: {type(error).__name__}: {error}. It or its arguments hold what can't be "
                "pickled (an open file, a lock, a client). Create that inside the function"
            ) from error
        finally:
            if by_value:
                cloudpickle.unregister_pickle_by_value(module)
