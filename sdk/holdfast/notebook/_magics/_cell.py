"""Turns a cell into a generator function, whose yields are the checkpoints. No I/O, and no IPython."""

from __future__ import annotations

import ast
import hashlib
import inspect
import keyword
import linecache
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from holdfast._client.undefined_names import CELL
from holdfast.errors import NotSendable

GIVEN = ("Progress", "WorkError")
"""Names of `holdfast.work` that a cell may use without importing them."""


def function_of(name: str, cell: str, parameters: Iterable[str], namespace: dict[str, Any]) -> Callable[..., Any]:
    """Return the generator function `name(job, *, parameters)` with the cell as body and `namespace` as globals.

    Line numbers include the line of the magic, as in an editor.

    Raises:
        NotSendable: the cell is not Python, has no yield, or has a name that is not allowed. The message says where.
    """
    filename = f"{CELL}{name}>"
    try:
        tree = ast.parse(f"\n{cell}", filename)
        _check_names(name, parameters, tree)
        code = compile(_module(name, tree.body, parameters, namespace), filename, "exec")
    except SyntaxError as error:
        raise NotSendable(f"line {error.lineno} of the cell is not valid here: {error.msg}") from None
    text = f"%%process {name}\n{cell}"
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)  # for its tracebacks
    made: dict[str, Any] = {}
    exec(code, namespace, made)  # noqa: S102 - defines the function and runs nothing of it
    function: Callable[..., Any] = made[name]
    if not inspect.isgeneratorfunction(function):
        raise NotSendable(
            "the cell has no yield. Write `yield Progress(done, total, checkpoint)` at every point where it may be "
            "paused"
        )
    return function


def digest_of(name: str, cell: str, parameters: Mapping[str, Any]) -> str:
    """Return a short digest of a cell, the same in every kernel."""
    return hashlib.sha256(repr((name, cell.strip(), sorted(parameters.items()))).encode()).hexdigest()[:10]


def value_of(text: str) -> Any:
    """Return the value of a parameter: a Python literal, else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _module(name: str, body: list[ast.stmt], parameters: Iterable[str], namespace: Mapping[str, Any]) -> ast.Module:
    used = _names(body)
    given = [ast.alias(each) for each in GIVEN if each in used and each not in namespace]
    # Imported inside the function, and only names that the notebook does not define. Its namespace does not change.
    head: list[ast.stmt] = [ast.ImportFrom("holdfast.work", given, 0)] if given else []
    arguments = ast.arguments(
        posonlyargs=[],
        args=[ast.arg("job")],
        kwonlyargs=[ast.arg(each) for each in parameters],
        kw_defaults=[None for _ in parameters],
        defaults=[],
    )
    function = ast.FunctionDef(name, arguments, [*head, *body] or [ast.Pass()], decorator_list=[], lineno=1)
    return ast.fix_missing_locations(ast.Module([function], type_ignores=[]))


def _check_names(name: str, parameters: Iterable[str], tree: ast.Module) -> None:
    for each in (name, *parameters):
        if not each.isidentifier() or keyword.iskeyword(each):
            raise NotSendable(f"{each!r} is not a valid name in Python. Use letters, digits and _, and no digit first")
    if "job" in parameters:
        raise NotSendable("the cell uses 'job' for its process. Choose another name for the parameter")
    if name in _names(tree.body):
        raise NotSendable(f"the cell uses a variable {name!r}, which is the name of its process. Rename one of them")


def _names(body: Iterable[ast.stmt]) -> set[str]:
    return {node.id for statement in body for node in ast.walk(statement) if isinstance(node, ast.Name)}
