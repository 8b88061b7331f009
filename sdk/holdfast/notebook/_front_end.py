"""The front end that shows the views of this kernel, as far as a kernel can find out."""

from __future__ import annotations

import importlib.util
import os
import sys

NO_LIVE_UPDATES = "this front end shows updates only while a cell runs"


def needs_running_cell() -> bool:
    """Return whether the front end shows updates only while a cell runs (Colab does: googlecolab/colabtools#3373)."""
    return "google.colab" in sys.modules


def takes_modules() -> bool:
    """Return whether views may use a browser module of our own.

    JupyterLab and Notebook have the module's loader when anywidget is installed. Colab and VS Code load it from a
    network that may be closed, so there views are made of the widgets that every front end has. `HOLDFAST_WIDGETS`
    (`module` or `plain`) decides it for them.
    """
    if wanted := os.environ.get("HOLDFAST_WIDGETS"):
        return wanted == "module"
    if importlib.util.find_spec("anywidget") is None:
        return False
    return not needs_running_cell() and not _is_vs_code()


def _is_vs_code() -> bool:
    """Return whether VS Code runs this kernel. It names the notebook's file in a variable."""
    if "VSCODE_PID" in os.environ:
        return True
    if "IPython" not in sys.modules:
        return False
    from IPython.core.getipython import get_ipython

    return "__vsc_ipynb_file__" in getattr(get_ipython(), "user_ns", {})
