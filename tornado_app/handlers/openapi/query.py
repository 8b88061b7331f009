"""Query strings as typed structs: what is documented for a parameter is what is checked of it."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from msgspec import inspect as types

from tornado_app import problems

T = TypeVar("T")

_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclass(frozen=True)
class Parameter:
    """One field of a query struct: its annotation, and what msgspec makes of that without its Meta and null."""

    name: str
    type: Any
    info: types.Type
    required: bool
    default: Any

    @property
    def is_list(self) -> bool:
        """Return whether it may be given more than once."""
        return isinstance(self.info, types.ListType)


@functools.cache
def parameters(type: Any) -> dict[str, Parameter]:
    """Return the parameters of a query struct by name."""
    found = {}
    for f in msgspec.structs.fields(type):
        info = _bare(types.type_info(f.type))
        found[f.encode_name] = Parameter(f.encode_name, f.type, info, f.required, f.default)
    return found


def texts(arguments: Mapping[str, Sequence[bytes]]) -> dict[str, list[str]]:
    """Return every argument as text, by name. Raises BAD_PARAMETERS for bytes that are not UTF-8."""
    given = {}
    for name, values in arguments.items():
        try:
            given[name.encode("latin-1").decode()] = list(map(bytes.decode, values))
        except UnicodeError:
            raise problems.BAD_PARAMETERS(f"{name} is not UTF-8", field=name) from None
    return given


def read(type: type[T], given: Mapping[str, Sequence[str]]) -> T:
    """Return the query as a struct. A struct with `forbid_unknown_fields` refuses what it has no field for.

    Raises:
        ProblemError: BAD_PARAMETERS naming the field and what would be right.
    """
    known = parameters(type)  # type: ignore[arg-type]
    if type.__struct_config__.forbid_unknown_fields:  # type: ignore[attr-defined]
        for name in given:
            if name not in known:
                takes = f"this endpoint takes {', '.join(known)}" if known else "this endpoint takes none"
                raise problems.BAD_PARAMETERS(f"unknown parameter {name!r}; {takes}", field=name[:100])
    values: dict[str, Any] = {}
    for name, parameter in known.items():
        if texts := given.get(name):
            values[name] = _value(parameter, texts)
        elif parameter.required:
            raise problems.BAD_PARAMETERS(f"{name} is missing: add {name}=... to the query", field=name)
    return type(**values)


def _value(parameter: Parameter, texts: Sequence[str]) -> Any:
    name = parameter.name
    if len(texts) > 1 and not parameter.is_list:
        raise problems.BAD_PARAMETERS(f"{name} is given {len(texts)} times. Give it once", field=name)
    try:
        if isinstance(parameter.info, types.ListType):
            item = _bare(parameter.info.item_type)
            value: Any = [_read(item, text) for text in _split(item, texts)]
        else:
            value = _read(parameter.info, texts[0])
        return msgspec.convert(value, parameter.type)
    except ValueError:
        given = ", ".join(map(repr, texts))
        raise problems.BAD_PARAMETERS(
            f"{name} must be {_wants(parameter.info)}, not {given[:200]}", field=name
        ) from None


def _split(item: types.Type, texts: Iterable[str]) -> list[str]:
    """Return the items of a list. Names from a fixed set may also be joined by commas."""
    if isinstance(item, types.EnumType | types.LiteralType):
        return [part for text in texts for part in text.split(",")]
    return list(texts)


def _read(info: types.Type, text: str) -> Any:
    """Return a text as a JSON value. Raises `ValueError`; msgspec checks constraints."""
    if isinstance(info, types.IntType):
        if not (text.isascii() and text.isdigit() and len(text) <= 19):
            raise ValueError
        return int(text)
    if isinstance(info, types.FloatType):
        if not set(text) <= set("0123456789.eE+-"):  # no nan, inf, underscores or blanks
            raise ValueError
        return float(text)
    if isinstance(info, types.BoolType):
        if text.lower() not in _TRUTH:
            raise ValueError
        return _TRUTH[text.lower()]
    return text


def _wants(info: types.Type) -> str:
    """Return what the value must be, in words."""
    match info:
        case types.IntType(ge=low, le=high) | types.FloatType(ge=low, le=high):
            kind = "a whole number" if isinstance(info, types.IntType) else "a number"
            if low is None or high is None or high >= 10**18:
                return kind if low is None else f"{kind} from {low}"
            return f"{kind} from {low} to {high}"
        case types.BoolType():
            return "true or false"
        case types.EnumType(cls=cls):
            return _one_of([str(member.value) for member in cls])
        case types.LiteralType(values=values):
            return _one_of([str(value) for value in values if value != ""])
        case types.ListType(item_type=item):
            return f"one or more, each {_wants(_bare(item))}"
        case types.StrType(pattern=pattern) if pattern:
            return f"a text like {pattern}"
    return "a text"


def _one_of(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]


def _bare(info: types.Type) -> types.Type:
    """Return a type without its Meta and without "or null", which a query can't express."""
    if isinstance(info, types.Metadata):
        return _bare(info.type)
    if isinstance(info, types.UnionType):
        kinds = [_bare(kind) for kind in info.types if not isinstance(kind, types.NoneType)]
        if len(kinds) == 1:
            return kinds[0]
    return info
