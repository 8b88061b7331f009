"""What `%load_ext holdfast` brings to IPython: `%holdfast` for lines, `%%process` for cells that run on the server.

Both use what the client gives, and show it: nothing here knows anything that the API does not.
"""

from __future__ import annotations

from typing import Any

from holdfast.notebook._magics._shell import Magics


def load(shell: Any) -> None:
    """Register the magics with a shell, and what completes them."""
    unload(shell)
    magics = Magics(shell)
    shell.register_magic_function(magics.line, "line", "holdfast")
    shell.register_magic_function(magics.cell, "cell", "process")
    shell.Completer.custom_matchers.append(magics.complete)


def unload(shell: Any) -> None:
    """Take them out of a shell again."""
    shell.magics_manager.magics["line"].pop("holdfast", None)
    shell.magics_manager.magics["cell"].pop("process", None)
    matchers = shell.Completer.custom_matchers
    matchers[:] = [each for each in matchers if not isinstance(getattr(each, "__self__", None), Magics)]
