"""A program and its arguments as a setting writes them, with places for values that a request gives. Pure."""

from __future__ import annotations

import shlex
import string
from collections.abc import Mapping

from tornado_app.commands import code_arguments


class CommandLine:
    """`backup --to {target}`: quoted as for a shell, but run without one; a brace itself is written twice.

    A value fills its place and nothing else: it can't become a further argument, nor an option; and it has no place in
    what a program runs as code, as a shell does with what follows `-c`.
    """

    def __init__(self, text: str) -> None:
        """Raises `ValueError` saying what is wrong."""
        self._arguments = shlex.split(text)
        if not self._arguments or not self._arguments[0]:
            raise ValueError("it names no program")
        for argument in self._arguments:
            for _, field, spec, conversion in string.Formatter().parse(argument):
                if field is not None and (not field.isidentifier() or spec or conversion):
                    raise ValueError(f"{{{field}}} is no place for a value: write {{name}}, and {{{{ for a brace")
        if _places(self._arguments[:1]):
            raise ValueError("the program itself can't be a value")
        code_arguments.refuse(self._arguments, lambda argument: bool(_places([argument])))

    def filled(self, values: Mapping[str, str | int | float]) -> list[str]:
        """The arguments with their values in place. Raises `ValueError` for values that do not fit."""
        places = _places(self._arguments)
        for name in sorted(places ^ set(values)):
            lacks = "it needs the value" if name in places else "it has no place for the value"
            raise ValueError(f"{lacks} {name!r}; it takes {', '.join(sorted(places)) or 'no values'}")
        texts = {name: str(value) for name, value in values.items()}
        for name, text in texts.items():
            if "\0" in text:
                raise ValueError(f"the value {name!r} has a NUL in it, which no argument can have")
        filled = [argument.format(**texts) for argument in self._arguments]
        for argument, result in zip(self._arguments, filled, strict=True):
            if result.startswith("-") and not argument.startswith("-"):
                raise ValueError(f"{result!r} would be taken as an option: a value here must not begin with -")
        return filled


def _places(arguments: list[str]) -> set[str]:
    return {field for argument in arguments for _, field, _, _ in string.Formatter().parse(argument) if field}
