"""Make the modules that `--import` names importable, in the server and in the OS processes that work runs in.

Python runs with a safe path (`-P`): it does not search the working directory, which may hold what clients upload. So a
module of that directory is found by its name alone, and its folder comes last, for what it imports itself.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

import holdfast  # noqa: F401 - before a folder is added: an editable install is found only after all folders

log = logging.getLogger("holdfast.server")

_VARIABLE = "HOLDFAST_IMPORT_FOLDERS"
"""Folders by module name as JSON, for the fork server, which inherits nothing but the environment."""


class _NamedModules(MetaPathFinder):
    """Finds top-level modules of certain names in their folders, before all other finders."""

    def __init__(self) -> None:
        self.folders: dict[str, str] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        folder = self.folders.get(fullname) if path is None else None
        return None if folder is None else PathFinder.find_spec(fullname, [folder], target)


_finder = _NamedModules()


def module_name(given: str) -> str:
    """Return the name of the module that an `--import` means: itself, or that of the file it is the path of."""
    return Path(given).stem if _is_path(given) else given


def make_importable(given: str, files_dir: Path) -> str:
    """Let a module be imported, here and in children; its name.

    `given` is a dotted name, looked up in the working directory and then among what is installed, or the path of a
    file. Raises `ImportError` when a path leads to no module.
    """
    name = module_name(given)
    top = name.partition(".")[0]
    folder = Path(given).resolve().parent if _is_path(given) else Path.cwd()
    if PathFinder.find_spec(top, [str(folder)]) is None:
        if _is_path(given):
            raise ImportError(f"there is no Python module at {given}. Give the path of a .py file")
        return name
    if folder.is_relative_to(files_dir.resolve()):
        log.warning("--import %s is inside the files directory: whoever may upload can replace its code", given)
    _find_in({top: str(folder)})
    os.environ[_VARIABLE] = json.dumps(_finder.folders)
    return name


def _is_path(given: str) -> bool:
    return given.endswith(".py") or os.sep in given


def _find_in(folders: dict[str, str]) -> None:
    _finder.folders.update(folders)
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    sys.path += [folder for folder in folders.values() if folder not in sys.path]


_find_in(json.loads(os.environ.get(_VARIABLE, "{}")))
