"""The IPython extension `%load_ext holdfast`: `%holdfast` for lines, `%%process` for cells that run on the server.

Uses the public client and displays its results. Begin reading in `_shell.py`.
"""

from __future__ import annotations

from typing import Any

from holdfast.notebook._magics._shell import Magics


def load(shell: Any) -> None:
    """Register the magics and their completion with a shell."""
    unload(shell)
    magics = Magics(shell)
    shell.register_magic_function(magics.line, "line", "holdfast")
    shell.register_magic_function(magics.cell, "cell", "process")
    shell.Completer.custom_matchers.append(magics.complete)


def unload(shell: Any) -> None:
    """Remove the magics and their completion from a shell."""
    shell.magics_manager.magics["line"].pop("holdfast", None)
    shell.magics_manager.magics["cell"].pop("process", None)
    matchers = shell.Completer.custom_matchers
    matchers[:] = [each for each in matchers if not isinstance(getattr(each, "__self__", None), Magics)]
