"""Names that are bound nowhere are found before a function is sent; what the compiler binds is never taken for one."""

from __future__ import annotations

import builtins
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import holdfast
from holdfast._client.sent_code import code_request
from holdfast._client.undefined_names import first_undefined
from holdfast.errors import NotSendable
from holdfast.notebook._magics._cell import function_of

NAMESPACE: dict[str, Any] = {"__name__": "__main__", "rows": [1, 2], "holdfast": holdfast}


def of_cell(cell: str, **namespace: Any) -> Any:
    """Return what is found in the cell of a `%%process` line, in a notebook that has `rows`."""
    function: Any = function_of("work", textwrap.dedent(cell), ["step"], NAMESPACE | namespace)
    return first_undefined(function)


FINE = {
    "names of the notebook, of the cell, of Python": "for row in rows:\n    yield Progress(len(rows), step, job.id)",
    "comprehensions": "a = [x + y for x in rows for y in rows if x]\nb = {k: v for k, v in zip(a, a)}\nyield b",
    "a lambda and its default": "f = lambda a, *b, c=rows, **d: (a, b, c, d)\nyield f",
    "a walrus in a comprehension": "any((last := x) for x in rows)\nyield last",
    "global": "global total\ntotal = 1\nyield total",
    "global in a function inside": "def set():\n    global found\n    found = 1\nset()\nyield found",
    "nonlocal": "n = 1\ndef f():\n    nonlocal n\n    n += 1\nf()\nyield n",
    "del and again": "a = 1\ndel a\na = 2\nyield a",
    "imports": "import os.path as p, json\nfrom math import pi as number\nyield p, json, number",
    "a function that calls itself": "def f(n):\n    return f(n - 1) if n else n\nyield f(3)",
    "with, except, for, match": """
        with open("a") as file:
            yield file
        try:
            pass
        except OSError as error:
            yield error
        match rows:
            case [first, *rest] | {"a": first, **rest}:
                yield first, rest
        """,
    "class bodies": """
        class Base:
            one = 1
            two = one + 1
            three: int = two
            __slots__ = ("a",)
            def method(self):
                return __class__, super().__init__, self.one
        class Child(Base, metaclass=type):
            print(__name__, __qualname__, __module__)
            class Inner:
                x: "list[Nothing]" = []
        yield Child
        """,
    "a test by NameError": "try:\n    tqdm\nexcept NameError:\n    yield 1\nyield tqdm",
    "a test by a wider error": "try:\n    maybe()\nexcept Exception:\n    yield 1",
    "a test by any error": "try:\n    maybe()\nexcept:\n    yield 1",
    "suppressed": "from contextlib import suppress\nwith suppress(KeyError, NameError):\n    maybe()\nyield 1",
    "bound unseen": "globals()['made'] = 1\nyield made",
    "run from a text": "exec('made = 1', globals())\nyield made",
    "never run": "if False:\n    nothing\nyield 1",
    "type checks in a text": "def f(a: 'Nothing') -> 'Nothing': return a\nyield f",
}


@pytest.mark.parametrize("cell", FINE.values(), ids=FINE)
def test_what_is_bound_is_not_reported(cell: str) -> None:
    assert of_cell(cell) is None


WRONG = {
    "alone": ("x = 1\nyield nothing", "nothing", 3),
    "after another use": ("yield rows\nyield rows, nothing", "nothing", 3),
    "in a comprehension": ("yield [nothing for x in rows]", "nothing", 2),
    "the variable of a comprehension after it": ("a = [x for x in rows]\nyield x", "x", 3),
    "the variable of a class body in its method": (
        "class A:\n    one = 1\n    def f(self):\n        return one\nyield A",
        "one",
        5,
    ),
    "before it is bound in a class body": ("class A:\n    b = c\n    c = 1\nyield A", "c", 3),
    "local in another function": ("def f():\n    inside = 1\nyield inside", "inside", 4),
    "in a function inside": ("def f():\n    return nothing\nyield f", "nothing", 3),
    "as a decorator": ("@nothing\ndef f(): ...\nyield f", "nothing", 2),
    "as a base class": ("class A(nothing): ...\nyield A", "nothing", 2),
    "in a handler": ("try:\n    yield 1\nexcept OSError:\n    nothing", "nothing", 5),
    "caught as another error": ("try:\n    nothing\nexcept KeyError:\n    yield 1", "nothing", 3),
    "in an f-string": ("yield f'{nothing!r:>{step}}'", "nothing", 2),
}


@pytest.mark.parametrize(("cell", "name", "line"), WRONG.values(), ids=WRONG)
def test_what_is_bound_nowhere_is_reported_with_its_line(cell: str, name: str, line: int) -> None:
    found = of_cell(cell)
    assert (found and found.name, found and found.line) == (name, line)


def test_the_remedy_fits_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    remedies = {"row": "Did you mean 'rows'?", "re": "Write `import re`", "np": "Write `import numpy as np`"}
    for name, remedy in {**remedies, "zzz": "Define it in the notebook first, or pass it as a parameter"}.items():
        assert of_cell(f"yield {name}").remedy.startswith(remedy)
    monkeypatch.setattr(builtins, "display", print, raising=False)  # as IPython does
    assert of_cell("yield display(1)").remedy.startswith("Only a notebook has it")
    assert of_cell("yield display(1)", display=print) is None


def helper() -> int:
    return nowhere  # type: ignore[name-defined] # noqa: F821


def test_a_function_and_those_that_are_sent_with_it_are_checked() -> None:
    def direct(job: object) -> Iterator[object]:
        yield (
            nothing  # type: ignore[name-defined] # noqa: F821
        )

    def indirect(job: object) -> Iterator[object]:
        yield helper()

    source = Path(__file__).read_text(encoding="utf-8").splitlines()
    for function, name in ((direct, "nothing"), (indirect, "nowhere")):
        lines = [number for number, line in enumerate(source, 1) if re.match(rf" +(return )?{name}\b", line)]
        says = rf"^line {lines[0]} of File .*test_undefined_names.py uses '{name}', which is not defined\. "
        with pytest.raises(NotSendable, match=says):
            code_request(function, (), {})


def test_a_cell_is_named_as_one() -> None:
    function = function_of("work", "yield nothing", [], NAMESPACE)
    with pytest.raises(NotSendable, match=r"^line 2 of the cell uses 'nothing', which is not defined\. Define it in"):
        code_request(function, (), {})


def test_without_its_source_nothing_is_reported() -> None:
    made: dict[str, Any] = {}
    exec(compile("def work(job):\n    yield nothing", "<nowhere>", "exec"), NAMESPACE, made)
    assert first_undefined(made["work"]) is None
