"""Source lines of functions that are sent, so that a traceback on the server shows them.

The result depends on the functions alone, not on the paths of their files or on other code in them: a repeated request
must be the same request.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import linecache
import os
import pickle
from collections import ChainMap
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any

from holdfast._client.undefined_names import CELL
from holdfast.work import WorkType

_MOST_BYTES = 1024 * 1024
_UNKNOWN = "<dynamic-code>"  # what cloudpickle puts in the place of every file name


def functions_of(sent: Any) -> Iterator[FunctionType]:
    """Iterate over a function or the functions of a work type, and over those that are pickled by value with them."""
    left, seen = [sent], set[int]()
    while left:
        item = left.pop(0)
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, WorkType):
            left += [item.function, item.rollback_function]
        elif isinstance(item, type):
            left += [part for part in vars(item).values() if isinstance(part, FunctionType)]
        elif isinstance(item, FunctionType):
            yield item
            left += _mentioned(item)


class Sources:
    """Source lines of a function or a work type, and of everything that is sent with it."""

    def __init__(self, sent: Any) -> None:
        self.lines: dict[str, dict[int, str]] = {}
        """Text of each function, by the name of its cell or file and the number of its first line."""
        self._names: dict[str, str] = {}
        self._left = _MOST_BYTES
        for function in functions_of(sent):
            self._add(function)

    def pickled(self, value: Any) -> bytes:
        """Return `value` pickled by cloudpickle with the names of its files, then a second pickle with the lines."""
        import cloudpickle

        usual = cloudpickle.Pickler.dispatch_table

        def reduce(code: CodeType) -> Any:
            make, values = usual[CodeType](code)
            name = self._names.get(code.co_filename, _UNKNOWN)
            known = (_UNKNOWN, code.co_filename)
            return make, tuple(name if isinstance(value, str) and value in known else value for value in values)

        class Pickler(cloudpickle.Pickler):  # type: ignore[misc] # cloudpickle has no types
            dispatch_table = ChainMap({CodeType: reduce}, usual)  # noqa: RUF012 - as cloudpickle has it

        stream = io.BytesIO()
        Pickler(stream).dump(value)
        return stream.getvalue() + pickle.dumps(self.lines)

    def _add(self, function: FunctionType) -> None:
        code = function.__code__
        lines = linecache.getlines(code.co_filename, function.__globals__)
        text = "".join(lines[code.co_firstlineno - 1 : _last_line(code)])
        if text and len(text) <= self._left:
            self._left -= len(text)
            self.lines.setdefault(self._name(code.co_filename), {})[code.co_firstlineno] = text

    def _name(self, file: str) -> str:
        """Return a name that does not depend on the path. A notebook cell has a new file each time."""
        if file not in self._names:
            plain = "cell" if "ipykernel_" in file or not os.path.isfile(file) else os.path.basename(file)
            if file.startswith(CELL):  # the sender has chosen its name
                plain = file.strip("<>")
            names = (f"{plain} {number}" if number > 1 else plain for number in itertools.count(1))
            self._names[file] = next(f"<{name}>" for name in names if f"<{name}>" not in self._names.values())
        return self._names[file]


def _last_line(code: CodeType) -> int:
    lines = [line for _, _, line in code.co_lines() if line is not None]
    inside = [_last_line(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return max([code.co_firstlineno, *lines, *inside])


def _mentioned(function: FunctionType) -> list[Any]:
    """Return the functions, classes and work types that a function names and that are pickled by value with it."""
    codes, names = [function.__code__], set[str]()
    while codes:
        code = codes.pop()
        names.update(code.co_names)
        codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    values = [function.__globals__[name] for name in sorted(names) if name in function.__globals__]
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # it is empty
            values.append(cell.cell_contents)
    sent_along = ("__main__", function.__module__)
    return [
        value for value in values if isinstance(value, WorkType) or getattr(value, "__module__", None) in sent_along
    ]
