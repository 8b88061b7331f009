"""No address leaves the server without the base URL and the proxy's prefix: each is made by `address`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.support.source_tree import Module, modules

pytestmark = pytest.mark.slow  # to read all of the source takes more than a quarter of a second

PATH = re.compile(r"/(?:v1|problems|docs|health|metrics|openapi\.json|upload|download)\b")

MAKERS = {"address", "location_of", "location_of_file"}
"""Functions whose result begins with the base URL; an argument of the first is a path of this server."""

INWARD = {
    "tornado_app.routes": "the patterns of requests",
    "tornado_app.handlers.direct.delegate": "the patterns of requests",
    "tornado_app.problems": "the path of a type, which `uri_below` puts below the base URL",
    "tornado_app.files.links": "what a handler puts below the base URL; the signature covers the name",
}
"""Modules that name paths of the server, and why none of them leaves it as it is."""

ELSEWHERE = {"login.url", "login.next"}
"""Locations at the hub, and the page that the browser itself had asked for before it logged in."""


def served() -> list[Module]:
    return [module for module in modules().values() if module.place.startswith("tornado_app")]


def place_of(module: Module) -> str:
    return module.place.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def made(tree: ast.AST) -> set[int]:
    """The ids of all nodes inside calls that make addresses."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and name_of(node.func) in MAKERS]
    return {id(inner) for call in calls for inner in ast.walk(call)}


def name_of(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def paths(tree: ast.AST) -> Iterator[str]:
    """Texts that are a path of the server from their beginning on, outside of calls that make an address."""
    fine = made(tree)
    within = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        first = node.values[0] if isinstance(node, ast.JoinedStr) and node.values else node
        is_part = node is first and id(node) in within
        is_text = isinstance(first, ast.Constant) and isinstance(first.value, str) and not is_part
        if is_text and id(node) not in fine and PATH.match(first.value):
            yield f"line {first.lineno}: {first.value}"


def locations(tree: ast.AST) -> Iterator[ast.expr]:
    """The values of each Location header that is set."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and name_of(node.func) in ("set_header", "add_header"):
            if isinstance(node.args[0], ast.Constant) and node.args[0].value == "Location":
                yield node.args[1]
        elif isinstance(node, ast.Dict):
            yield from (
                value
                for key, value in zip(node.keys, node.values, strict=True)
                if isinstance(key, ast.Constant) and key.value == "Location" and not isinstance(value, ast.Tuple)
            )
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
            key = node.targets[0].slice
            if isinstance(key, ast.Constant) and key.value == "Location":
                yield node.value


def is_made(value: ast.expr, tree: ast.AST) -> bool:
    """Return whether a call makes the address; a name stands for what is assigned to it in the module."""
    if isinstance(value, ast.Name):
        given = [
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and any(getattr(t, "id", "") == value.id for t in node.targets)
        ]
        return bool(given) and all(is_made(each, tree) for each in given)
    inner = {id(node) for node in ast.walk(value)}
    return bool(inner & made(value)) or ast.unparse(value) in ELSEWHERE


def test_no_path_of_the_server_is_written_but_below_its_base_url() -> None:
    found = {place_of(module): [*paths(module.tree)] for module in served()}
    assert {place: texts for place, texts in found.items() if texts and place not in INWARD} == {}
    assert {place for place in INWARD if not found[place]} == set(), "an exception that is not needed"


def test_every_location_is_made_in_the_one_place() -> None:
    wrong = [
        f"{place_of(module)}: {ast.unparse(value)}"
        for module in served()
        for value in locations(module.tree)
        if not is_made(value, module.tree)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("code", "count"),
    [
        ('f"/v1/files/{name}"', 1),
        ('"/problems/x"', 1),
        ('self.address("/v1/files")', 0),
        ('self.address(f"/v1/files/{name}")', 0),
        ('f"see {x}/v1/files"', 0),
        ('"GET /v1/files lists them"', 0),
        ('"/v10"', 0),
    ],
)
def test_a_path_is_found(code: str, count: int) -> None:
    assert len([*paths(ast.parse(code))]) == count


@pytest.mark.parametrize(
    ("code", "fits"),
    [
        ('h.set_header("Location", "/x")', False),
        ('h.set_header("Location", self.request.path)', False),
        ('headers["Location"] = root + "/x"', False),
        ('headers = {"Location": where}', False),
        ('where = self.request.location_of(upload)\nheaders = {"Location": where}', True),
        ('h.set_header("Location", self.address("/") + query)', True),
        ('headers = {"Location": login.url}', True),
    ],
)
def test_a_location_is_judged(code: str, fits: bool) -> None:
    tree = ast.parse(code)
    [value] = locations(tree)
    assert is_made(value, tree) is fits
