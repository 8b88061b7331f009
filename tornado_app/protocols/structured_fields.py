"""Structured field values (RFC 9651): items and dictionaries, parsed as strictly as section 4.2 says.

Values come as Python's own: int, Decimal, str for strings, `Token`, bytes, bool, `Date` and, for an inner list, a
tuple. What is ill-formed is None, never an exception: most fields are ignored then.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple


class Token(str):
    """A token, as opposed to a string."""

    __slots__ = ()


@dataclass(frozen=True)
class Date:
    """A date in seconds since 1970."""

    timestamp: int


Bare = int | Decimal | str | Token | bytes | bool | Date
Value = Bare | tuple["Item", ...]


class Item(NamedTuple):
    """A value with its parameters."""

    value: Value
    params: dict[str, Bare]


_KEY = re.compile(r"[a-z*][a-z0-9_\-.*]*")
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_STRING = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
_DISPLAY = re.compile(r'%"((?:[\x20\x21\x23\x24\x26-\x7e]|%[0-9a-f]{2})*)"')
_TOKEN = re.compile(r"[A-Za-z*][A-Za-z0-9!#$%&'*+\-.^_`|~:/]*")
_BYTES = re.compile(r":([A-Za-z0-9+/]*=*):")
_BOOLEAN = re.compile(r"\?([01])")


class _IllFormedError(Exception):
    pass


def parse_item(field: str) -> Item | None:
    """A field that is one item, like `?1` or `42;unit=byte`."""
    try:
        parser = _Parser(field)
        item = parser.item()
        parser.end()
    except _IllFormedError:
        return None
    return item


def parse_dictionary(field: str) -> dict[str, Item] | None:
    """A field that is a dictionary, like `sha-256=:…:, sha-512=:…:`; of a repeated key the last value counts."""
    try:
        return _Parser(field).dictionary()
    except _IllFormedError:
        return None


def integer(field: str | None) -> int | None:
    """The value of a field that must be an Integer of at most 15 digits; its parameters are passed over."""
    item = None if field is None else parse_item(field)
    return item.value if item is not None and type(item.value) is int else None


def boolean(field: str | None) -> bool | None:
    """The value of a field that must be a Boolean; its parameters are passed over."""
    item = None if field is None else parse_item(field)
    return item.value if item is not None and isinstance(item.value, bool) else None


def write_bytes(value: bytes) -> str:
    """A byte sequence as it stands in a field."""
    return f":{base64.b64encode(value).decode('ascii')}:"


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text.strip(" ")
        self.at = 0

    def end(self) -> None:
        if self.at != len(self.text):
            raise _IllFormedError

    def dictionary(self) -> dict[str, Item]:
        found: dict[str, Item] = {}
        while self.at < len(self.text):
            key = self._match(_KEY).group()
            if self._take("="):
                value = self.inner_list() if self._peek("(") else self.item()
            else:
                value = Item(True, self.params())
            found.pop(key, None)
            found[key] = value
            self._spaces(" \t")
            if self.at == len(self.text):
                break
            if not self._take(","):
                raise _IllFormedError
            self._spaces(" \t")
            if self.at == len(self.text):
                raise _IllFormedError  # a trailing comma
        return found

    def inner_list(self) -> Item:
        self._take("(")
        items: list[Item] = []
        while True:
            self._spaces(" ")
            if self._take(")"):
                return Item(tuple(items), self.params())
            items.append(self.item())
            if not (self._peek(" ") or self._peek(")")):
                raise _IllFormedError

    def item(self) -> Item:
        return Item(self.bare(), self.params())

    def params(self) -> dict[str, Bare]:
        found: dict[str, Bare] = {}
        while self._take(";"):
            self._spaces(" ")
            key = self._match(_KEY).group()
            found.pop(key, None)
            found[key] = self.bare() if self._take("=") else True
        return found

    def bare(self) -> Bare:
        first = self.text[self.at : self.at + 1]
        if first == '"':
            return re.sub(r"\\(.)", r"\1", self._match(_STRING).group(1))
        if first == ":":
            return self._octets()
        if first == "?":
            return self._match(_BOOLEAN).group(1) == "1"
        if first == "@":
            self.at += 1
            number = self._number()
            if isinstance(number, int):
                return Date(number)
            raise _IllFormedError
        if first == "%":
            return self._display_string()
        if first and first in "-0123456789":
            return self._number()
        return Token(self._match(_TOKEN).group())

    def _number(self) -> int | Decimal:
        text = self._match(_NUMBER).group()
        whole, point, fraction = text.lstrip("-").partition(".")
        if not point and len(whole) <= 15:
            return int(text)
        if point and len(whole) <= 12 and len(fraction) <= 3:
            return Decimal(text)
        raise _IllFormedError

    def _octets(self) -> bytes:
        text = self._match(_BYTES).group(1).rstrip("=")
        try:
            return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        except binascii.Error:
            raise _IllFormedError from None

    def _display_string(self) -> str:
        octets = re.sub(r"%([0-9a-f]{2})", lambda m: chr(int(m[1], 16)), self._match(_DISPLAY).group(1))
        try:
            return octets.encode("latin-1").decode("utf-8")
        except UnicodeDecodeError:
            raise _IllFormedError from None

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str]:
        match = pattern.match(self.text, self.at)
        if match is None:
            raise _IllFormedError
        self.at = match.end()
        return match

    def _peek(self, char: str) -> bool:
        return self.text.startswith(char, self.at)

    def _take(self, char: str) -> bool:
        taken = self._peek(char)
        self.at += taken
        return taken

    def _spaces(self, chars: str) -> None:
        while self.at < len(self.text) and self.text[self.at] in chars:
            self.at += 1
