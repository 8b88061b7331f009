"""One word, one meaning: names that are not used here, classes that share no name, docstrings that say what is done."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.support.source_tree import definitions, modules

pytestmark = pytest.mark.slow  # to read all of the source takes more than a quarter of a second

# Names of an earlier private dialect, each with the field's term. An underscore in front makes no difference.
BANNED = {
    "backlog": "log buffer",
    "book": "transitions",
    "crew": "executor",
    "follower": "hash worker",
    "for_work": "workspace",
    "hub": "event broker",
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
    "tell": "notify or report",
    "told": "notified or reported",
}

# How often the names above are still there, and how many docstrings still begin with a question word, by folder. The
# figures only shrink; when none is left they go.
STILL_BANNED: dict[str, int] = {
    "answer": 3,
    "around": 2,
    "backlog": 2,
    "crew": 11,
    "dialect": 21,
    "expect": 2,
    "follower": 14,
    "for_work": 2,
    "lent": 7,
    "let_go": 26,
    "look": 18,
    "look_over": 6,
    "oust": 4,
    "pump": 2,
    "settle": 35,
    "settled": 13,
    "shown": 5,
    "tell": 11,
    "told": 5,
    "trips": 9,
    "undo": 37,
    "upkeep": 3,
    "wish": 23,
    "wishes": 9,
}
STILL_RIDDLES: dict[str, int] = {
    "tornado_app/files": 15,
    "tornado_app/files/uploads": 14,
    "tornado_app/processes": 4,
    "tornado_app/processes/executors": 9,
    "tornado_app/processes/supervision": 8,
    "tornado_app/work_types": 17,
    "tornado_app/work_types/programs": 2,
    "tornado_app/work_types/tables": 8,
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
        found.update(name for name in names if name in BANNED)
        defined = [module.name.rpartition(".")[2], *(node.name for node in definitions(module.tree))]
        found.update(name for word in defined if (name := word.strip("_").lower()) in BANNED_AS_DEFINITION)
    return found


def test_no_banned_name_is_used() -> None:
    too_many = {name: count for name, count in banned().items() if count > STILL_BANNED.get(name, 0)}
    assert {name: (BANNED | BANNED_AS_DEFINITION)[name] for name in too_many} == {}, too_many


def test_no_two_public_classes_share_a_name() -> None:
    places: dict[str, list[str]] = {}
    for module in modules().values():
        for node in module.tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(module.place)
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


RIDDLE = re.compile(r"(What|Tells?|Whether|How|Where|Who|Whom|Whose|Why|When|If|Which|That)\b")


def riddles() -> dict[str, list[str]]:
    """Return the first lines of docstrings that begin with a question word, by folder."""
    found: dict[str, list[str]] = {}
    for module in modules().values():
        for node in [module.tree, *definitions(module.tree)]:
            if RIDDLE.match(text := ast.get_docstring(node) or ""):
                folder = module.place.rpartition("/")[0]
                found.setdefault(folder, []).append(f"{module.place}: {text.splitlines()[0]}")
    return found


def test_a_docstring_begins_with_a_verb_or_a_noun() -> None:
    """ "Return whether …" and "Path of …", never "Whether …" or "Where …"."""
    assert [lines for folder, lines in riddles().items() if len(lines) > STILL_RIDDLES.get(folder, 0)] == []
