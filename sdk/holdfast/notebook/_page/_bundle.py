"""Joins the browser modules of `holdfast/web/` into one, so that the page loads nothing from elsewhere."""

from __future__ import annotations

import posixpath
import re
from functools import cache
from importlib.resources import files

_WEB = files("holdfast") / "web"
_IMPORT = re.compile(r'^import (\{[^}]*\}) from "(\.[^"]+)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export ((?:async )?(?:class|function|const) (\w+))", re.MULTILINE)
_DEFAULT = re.compile(r"^export default ", re.MULTILINE)


def text(path: str) -> str:
    """Return a file of `holdfast/web/`."""
    return (_WEB / path).read_text("utf-8")


@cache
def bundle(path: str) -> str:
    """Return a module with all that it imports, as one module with the same default export.

    Imports are of the form `import { a, b } from "./other.js";`. Each module keeps a scope of its own.
    """
    numbers: dict[str, int] = {}
    parts: list[str] = []
    _add(path, numbers, parts)
    return "".join(parts) + f"export default m{numbers[path]}.default_;\n"


def _add(path: str, numbers: dict[str, int], parts: list[str]) -> None:
    if path in numbers:
        return
    source = text(path)
    folder = posixpath.dirname(path)
    names = []
    for match in _IMPORT.finditer(source):
        wanted = posixpath.normpath(posixpath.join(folder, match[2]))
        _add(wanted, numbers, parts)
        names.append(f"const {match[1]} = m{numbers[wanted]};\n")
    exports = [match[2] for match in _EXPORT.finditer(source)]
    exports += ["default_"] if _DEFAULT.search(source) else []
    own = _DEFAULT.sub("const default_ = ", _EXPORT.sub(r"\1", _IMPORT.sub("", source)))
    numbers[path] = len(numbers)
    parts.append(
        f"const m{numbers[path]} = (() => {{\n{''.join(names)}{own}return {{ {', '.join(exports)} }};\n}})();\n"
    )


def with_tus(module: str) -> str:
    """Return `module` with tus-js-client as `tus` before it."""
    tus = text("upload_box/tus.min.js").partition("\n//# sourceMappingURL")[0]
    # The client is a UMD bundle: it puts its exports into `module`, if there is one.
    wrapped = f"const tus = (() => {{ const module = {{ exports: {{}} }}, exports = module.exports;\n{tus}\n"
    return f"{wrapped}return module.exports; }})();\n{module}"
