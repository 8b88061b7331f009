"""The command `holdfast`. Needs the extra `cli`; imports nothing of it before it is called."""

from __future__ import annotations

import sys

from holdfast._extras import install_hint

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit."""
    try:
        from holdfast.cli._app import run
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in ("click", "rich"):
            raise
        sys.stderr.write(f"holdfast: the command needs {missing}: {install_hint('cli')}\n")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(run())
