"""One word, one meaning: names that are not used here, classes that share no name, docstrings that say what is done."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator

import pytest

from tests.support.source_tree import ROOT, Module, definitions, modules, read_module

pytestmark = pytest.mark.slow  # to read all of the source takes more than a quarter of a second

# Names of an earlier private dialect, each with the field's term. An underscore in front makes no difference.
BANNED = {
    "book": "transitions",
    "crew": "executor",
    "follower": "hash worker",
    "for_work": "workspace",
    "lent": "work context",
    "let_go": "on_release_requested",
    "look_over": "validate",
    "oust": "request_release",
    "pump": "renderer",
    "settle": "commit, finish or resolve",
    "settled": "committed, finished or resolved",
    "stock": "listing",
    "trips": "executor",
    "undo": "rollback",
    "upkeep": "expiry",
    "wish": "stop request",
    "wishes": "stop requests",
}
# Older public names that programs may use: they stay, as one property each.
ALLOWED = {("holdfast.work", "undo"), ("holdfast.work", "look_over")}
# Words that are plain enough for a variable, and say too little as the name of a module, a class or a function.
BANNED_AS_DEFINITION = {
    "answer": "response",
    "around": "context",
    "attempts": "runner",
    "dialects": "upload protocols",
    "expect": "precondition",
    "hear": "receive or subscribe",
    "look": "stat or poll",
    "news": "events",
    "reach": "URL policy",
    "shown": "display",
    "slots": "queue",
    "small": "page cache",
    "told": "notified or reported",
}


def identifiers(tree: ast.Module) -> Iterator[str]:
    """Iterate over all names that a module defines or uses."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield name
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.alias(name=name):
                yield from name.split(".")
            case ast.keyword(arg=str(name)):
                yield name


def banned() -> Counter[str]:
    """Count the banned names in the source."""
    found: Counter[str] = Counter()
    for module in modules().values():
        names = [name.strip("_").lower() for name in identifiers(module.tree)]
        found.update(name for name in names if name in BANNED and (module.name, name) not in ALLOWED)
        defined = [module.name.rpartition(".")[2], *(node.name for node in definitions(module.tree))]
        found.update(name for word in defined if (name := word.strip("_").lower()) in BANNED_AS_DEFINITION)
    return found


def test_no_banned_name_is_used() -> None:
    found = banned()
    assert {name: (BANNED | BANNED_AS_DEFINITION)[name] for name in found} == {}, found


def test_no_two_public_classes_share_a_name() -> None:
    places: dict[str, list[str]] = {}
    for module in modules().values():
        for node in module.tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(module.place)
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


RIDDLE = re.compile(r"(What|Tells?|Whether|How|Where|Who|Whom|Whose|Why|When|If|Which|That)\b")


def outside() -> Iterator[Module]:
    """Iterate over the modules of tests and benchmarks."""
    for folder in ("tests", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield read_module(path.stem, path)


def riddles(modules: Iterable[Module]) -> list[str]:
    """Return the first lines of docstrings that begin with a question word, each with its file."""
    found: list[str] = []
    for module in modules:
        for node in [module.tree, *definitions(module.tree)]:
            if RIDDLE.match(text := ast.get_docstring(node) or ""):
                found.append(f"{module.place}: {text.splitlines()[0]}")
    return found


def test_a_docstring_begins_with_a_verb_or_a_noun() -> None:
    """ "Return whether …" and "Path of …", never "Whether …" or "Where …"."""
    assert riddles(modules().values()) == []


def test_so_does_one_of_a_test_or_a_benchmark() -> None:
    assert riddles(outside()) == []
