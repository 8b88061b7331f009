"""The command `holdfast`. Uses the sync client, click and rich (extra `cli`), imported when the command runs.

Begin reading in `_app.py`.
"""

from __future__ import annotations

import io
import os
import sys

from holdfast._environment.extras import install_hint

__all__ = ["main"]


def _open_streams() -> None:
    """Make sure that text can be written to standard output and error, even if they are closed or not UTF-8."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - as long as the process lives
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def main() -> None:
    """Run the command line and exit."""
    _open_streams()
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
