"""Renders the templates of our Helm chart: the part of Go's templates that they use, and no more.

What this can't read is an error, so that a template that needs more fails its test. Where `helm` is installed the same
test compares both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

_TAG = re.compile(r"\{\{(-?)\s*(.*?)\s*(-?)\}\}", re.S)
_WORD = re.compile(r'"(?:[^"\\]|\\.)*"|\$?[\w.]*[\w]|\$?\.|\$')


@dataclass
class _Node:
    """A piece of text, an expression, or a block with its branches."""

    kind: str
    text: str = ""
    inner: list[_Node] = field(default_factory=list)
    other: list[_Node] = field(default_factory=list)


class Chart:
    """A chart's folder. `render` returns the documents that it makes of values."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.values: dict[str, Any] = yaml.safe_load((folder / "values.yaml").read_text())
        self.schema: dict[str, Any] = json.loads((folder / "values.schema.json").read_text())
        self._defined: dict[str, list[_Node]] = {}
        for node in _parse((folder / "templates/_helpers.tpl").read_text()):
            if node.kind == "define":
                self._defined[node.text.strip('"')] = node.inner

    def render(self, release: str, values: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the documents of all templates, with these values over the chart's own."""
        root = {"Values": merged(self.values, values), "Release": {"Name": release}}
        found = []
        for path in sorted((self.folder / "templates").glob("*.yaml")):
            text = self._text(_parse(path.read_text()), root, {"$": root})
            found += [document for document in yaml.safe_load_all(text) if document is not None]
        return found

    def _text(self, nodes: list[_Node], dot: Any, names: dict[str, Any]) -> str:
        return "".join(self._one(node, dot, names) for node in nodes)

    def _one(self, node: _Node, dot: Any, names: dict[str, Any]) -> str:
        if node.kind == "text":
            return node.text
        if node.kind == "if":
            negated = node.text.startswith("not ")
            value = self._value(node.text.removeprefix("not "), dot, names)
            return self._text(node.inner if bool(value) != negated else node.other, dot, names)
        if node.kind == "range":
            left, _, source = node.text.partition(":=")
            first, second = (word.strip() for word in left.split(","))
            items = self._value(source, dot, names)
            pairs = sorted(items.items()) if isinstance(items, dict) else enumerate(items)
            return "".join(self._text(node.inner, dot, {**names, first: key, second: value}) for key, value in pairs)
        value = self._value(node.text, dot, names)
        return str(value).lower() if isinstance(value, bool) else str(value)

    def _value(self, expression: str, dot: Any, names: dict[str, Any]) -> Any:
        value: Any = None
        for index, step in enumerate(expression.split("|")):
            words = _WORD.findall(step)
            value = self._call(words, [] if index == 0 else [value], dot, names)
        return value

    def _call(self, words: list[str], piped: list[Any], dot: Any, names: dict[str, Any]) -> Any:
        functions: dict[str, Callable[..., Any]] = {
            "include": lambda name, about: self._text(self._defined[name], about, names),
            "quote": lambda value: json.dumps(str(value)),
            "upper": lambda value: str(value).upper(),
            "nindent": lambda count, text: (
                "\n" + "\n".join(" " * count + line if line else line for line in text.split("\n"))
            ),
            "toYaml": lambda value: yaml.safe_dump(value, default_flow_style=False).rstrip("\n"),
        }
        if words[0] in functions:
            return functions[words[0]](*(self._term(word, dot, names) for word in words[1:]), *piped)
        assert len(words) == 1, f"not a template that this can read: {words}"
        return self._term(words[0], dot, names)

    @staticmethod
    def _term(word: str, dot: Any, names: dict[str, Any]) -> Any:
        if word.startswith('"'):
            return json.loads(word)
        if word.isdigit():
            return int(word)
        if word == ".":
            return dot
        head, _, path = word.partition(".")
        value = names[head] if head else dot
        for part in filter(None, path.split(".")):
            value = value[part]
        return value


def merged(base: Any, more: Any) -> Any:
    """Return values with others over them."""
    if not (isinstance(base, dict) and isinstance(more, dict)):
        return more
    return {**base, **{name: merged(base.get(name), value) for name, value in more.items()}}


def _parse(text: str) -> list[_Node]:
    tokens = list(_tokens(text))
    nodes, rest = _nodes(tokens)
    assert not rest, f"an end without a beginning: {rest[:2]}"
    return nodes


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    trims = False
    for tag in _TAG.finditer(text):
        before = text[at : tag.start()]
        before = before.lstrip() if trims else before
        yield "text", before.rstrip() if tag[1] else before
        yield "tag", tag[2]
        at, trims = tag.end(), bool(tag[3])
    yield "text", text[at:].lstrip() if trims else text[at:]


def _nodes(tokens: list[tuple[str, str]]) -> tuple[list[_Node], list[tuple[str, str]]]:
    found: list[_Node] = []
    while tokens:
        kind, text = tokens[0]
        word, _, rest = text.partition(" ")
        if kind == "tag" and word in ("end", "else"):
            return found, tokens
        tokens = tokens[1:]
        if kind == "tag" and word in ("if", "range", "define"):
            node = _Node(word, rest)
            node.inner, tokens = _nodes(tokens)
            if tokens[0][1] == "else":
                node.other, tokens = _nodes(tokens[1:])
            assert tokens[0] == ("tag", "end"), f"{word} without an end"
            tokens = tokens[1:]
            found.append(node)
        else:
            found.append(_Node("text" if kind == "text" else "value", text))
    return found, tokens
