"""The command `holdfast`. Needs `pip install 'holdfast[cli]'`; imports nothing of it before it is called."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit."""
    try:
        from holdfast.cli._app import run
    except ModuleNotFoundError as error:
        if error.name not in ("click", "rich"):
            raise
        sys.stderr.write(f"holdfast: the command needs {error.name}: pip install 'holdfast[cli]'\n")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(run())
