"""A cell as a generator function: its yields are the checkpoints. No I/O, and nothing of IPython."""

from __future__ import annotations

import ast
import hashlib
import inspect
import keyword
import linecache
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from holdfast.errors import NotSendable

GIVEN = ("Progress", "WorkError")
"""Names of `holdfast.work` that a cell may use without importing them."""


def function_of(name: str, cell: str, parameters: Iterable[str], namespace: dict[str, Any]) -> Callable[..., Any]:
    """The generator function `name(job, *, parameters)` whose body is the cell and whose globals are `namespace`.

    Line numbers count the magic's own line, as editors do.

    Raises:
        NotSendable: it is not Python, never yields, or a name does not fit; the message says where and what would do.
    """
    filename = f"<%%process {name}>"
    try:
        tree = ast.parse(f"\n{cell}", filename)
        _check_names(name, parameters, tree)
        code = compile(_module(name, tree.body, parameters, namespace), filename, "exec")
    except SyntaxError as error:
        raise NotSendable(f"line {error.lineno} of the cell is not Python that can be sent: {error.msg}") from None
    text = f"%%process {name}\n{cell}"
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)  # for its tracebacks
    made: dict[str, Any] = {}
    exec(code, namespace, made)  # noqa: S102 - defines the function and runs nothing of it
    function: Callable[..., Any] = made[name]
    if not inspect.isgeneratorfunction(function):
        raise NotSendable(
            "the cell has no yield: it has to yield Progress(done, total, checkpoint) at every point where it may be "
            "stopped"
        )
    return function


def digest_of(name: str, cell: str, parameters: Mapping[str, Any]) -> str:
    """What is the same for the same cell, in whichever kernel."""
    return hashlib.sha256(repr((name, cell.strip(), sorted(parameters.items()))).encode()).hexdigest()[:10]


def value_of(text: str) -> Any:
    """What a parameter's text means: a literal of Python, else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _module(name: str, body: list[ast.stmt], parameters: Iterable[str], namespace: Mapping[str, Any]) -> ast.Module:
    used = _names(body)
    given = [ast.alias(each) for each in GIVEN if each in used and each not in namespace]
    # Imported inside, and only where the notebook has nothing of that name: its namespace stays as it is.
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
            raise NotSendable(f"{each!r} can't be a name in Python: letters, digits and _, and no digit first")
    if "job" in parameters:
        raise NotSendable("'job' is what the cell knows its process by: call the parameter something else")
    if name in _names(tree.body):
        raise NotSendable(f"the cell uses a variable {name!r}, as its process will be called: name one of them anew")


def _names(body: Iterable[ast.stmt]) -> set[str]:
    return {node.id for statement in body for node in ast.walk(statement) if isinstance(node, ast.Name)}
