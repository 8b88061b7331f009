"""Names that a function uses and that are bound nowhere, found before the function is sent.

The compiler has decided about each name already: what is local to a function, a comprehension or a class body is no
global name in its code. What is loaded as a global name must be in the globals of the function or in `builtins`, or be
bound by the code itself.
"""

from __future__ import annotations

import ast
import builtins
import difflib
import dis
import inspect
import linecache
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType, FunctionType

CELL = "<%%process "
"""Beginning of the file name of a cell that was made a function."""

_LOADS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
_STORES = frozenset({"STORE_GLOBAL"})
_IN_KERNELS = frozenset({"display", "get_ipython", "__IPYTHON__"})
"""Names that IPython adds to `builtins`. The server does not have them."""

_OF_CLASS_BODIES = frozenset({"__name__", "__qualname__", "__module__", "__annotations__"})
_BIND_UNSEEN = frozenset({"globals", "exec"})
_CATCH = frozenset({"NameError", "Exception", "BaseException"})
_LAZY = frozenset({"__annotate__"})  # code of annotations, which nothing may ever evaluate (PEP 649)
_USUAL = {"np": "import numpy as np", "pd": "import pandas as pd", "plt": "import matplotlib.pyplot as plt"}


@dataclass(frozen=True, slots=True)
class UndefinedName:
    """A name that is bound nowhere, and the line that uses it. `remedy` says what to do."""

    name: str
    line: int
    remedy: str


def first_undefined(function: FunctionType) -> UndefinedName | None:
    """Return the first name of a function, or of one inside it, that is bound nowhere.

    A name that the code tests for (`try` with `except NameError`) is left out, and so is everything of code that may
    bind names unseen (`exec`, `globals()`) or whose source is not there.
    """
    codes = list(_codes(function.__code__))
    used = {name for code in codes for name in code.co_names}
    tree = _source(function)
    if tree is None or used & _BIND_UNSEEN:
        return None
    known = {*function.__globals__, *dir(builtins)} - (_IN_KERNELS - {*function.__globals__})
    known |= _stored(codes) | set(_guarded(tree))
    for code in codes:
        if (found := _first_load(code, known)) is not None:
            name, line = found
            return UndefinedName(name, line, _remedy(name, known | set(function.__code__.co_varnames)))
    return None


def _codes(code: CodeType) -> Iterator[CodeType]:
    """Iterate over a code object and all that are evaluated in it: functions, comprehensions, class bodies."""
    if code.co_name in _LAZY:
        return
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _stored(codes: list[CodeType]) -> set[str]:
    """Return the names that the code binds as global ones (`global x`)."""
    return {str(step.argval) for code in codes for step in dis.get_instructions(code) if step.opname in _STORES}


def _first_load(code: CodeType, known: set[str]) -> tuple[str, int] | None:
    own = {*_OF_CLASS_BODIES}  # in a class body, also what it has bound before
    for step in dis.get_instructions(code):
        name = str(step.argval)
        if step.opname == "STORE_NAME":
            own.add(name)
        elif step.opname in _LOADS and name not in known and not (step.opname != "LOAD_GLOBAL" and name in own):
            return name, (step.positions and step.positions.lineno) or code.co_firstlineno
    return None


# -- names that the code itself looks after


def _source(function: FunctionType) -> ast.Module | None:
    """Return the syntax tree of a function, or of the cell that it was made of; None if its source is not there."""
    code = function.__code__
    try:
        if code.co_filename.startswith(CELL):
            text = "\n" + "".join(linecache.getlines(code.co_filename)[1:])
        else:
            text = textwrap.dedent(inspect.getsource(code))
        return ast.parse(text)
    except (OSError, TypeError, SyntaxError):  # it has changed since
        return None


def _guarded(tree: ast.Module) -> Iterator[str]:
    """Iterate over the names in bodies of `try` and `with` statements that catch a `NameError`."""
    for node in ast.walk(tree):
        match node:
            case ast.Try(body=body, handlers=handlers):
                kinds = [handler.type for handler in handlers]
            case ast.With(body=body, items=items) | ast.AsyncWith(body=body, items=items):  # suppress(NameError)
                calls = [item.context_expr for item in items if isinstance(item.context_expr, ast.Call)]
                kinds = [argument for call in calls for argument in call.args]
            case _:
                continue
        if any(map(_catches, kinds)):
            yield from _names(body)


def _catches(kind: ast.expr | None) -> bool:
    return kind is None or any(isinstance(node, ast.Name) and node.id in _CATCH for node in ast.walk(kind))


def _names(body: list[ast.stmt]) -> Iterator[str]:
    for statement in body:
        yield from (node.id for node in ast.walk(statement) if isinstance(node, ast.Name))


def _remedy(name: str, known: set[str]) -> str:
    if name in _IN_KERNELS:
        return "Only a notebook has it: use it on the result"
    if statement := _USUAL.get(name) or (f"import {name}" if name in sys.stdlib_module_names else ""):
        return f"Write `{statement}` in it or in the notebook"
    if close := difflib.get_close_matches(name, sorted(known), 1, 0.8):
        return f"Did you mean {close[0]!r}?"
    return "Define it in the notebook first, or pass it as a parameter"
