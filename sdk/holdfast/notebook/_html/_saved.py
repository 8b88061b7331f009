"""Widgets of which a saved notebook keeps the HTML, and not their state.

nbclient (and with it papermill and `nbconvert --execute`) saves the state of each widget that a cell opens. nbconvert
then shows the widget, by scripts from a network, and a blank place without one. Without the state it shows the HTML
that is saved beside the widget.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import comm
import ipywidgets

from holdfast._environment.jupyter import parent_server

_opening = threading.RLock()  # `comm.create_comm` is global


class SavedAsHTML(ipywidgets.Widget):  # type: ignore[misc] # ipywidgets has no types
    """Widget of which a program that runs the notebook without a front end saves the HTML alone."""

    def open(self) -> None:
        """Open the comm, unless it is open."""
        with _without_cell() if may_lack_a_front_end() else _opening:
            super().open()


def may_lack_a_front_end() -> bool:
    """Return whether another program than a Jupyter server has started this kernel, which may be nbclient."""
    return "JPY_PARENT_PID" in os.environ and not parent_server()


@contextmanager
def _without_cell() -> Iterator[None]:
    """Let the comms that are opened meanwhile belong to no cell.

    nbclient reads only messages of the cell that it runs; a front end opens a comm whatever its message belongs to.
    """
    try:
        from ipykernel.comm.comm import BaseComm
        from ipykernel.kernelbase import Kernel
    except ImportError:  # a kernel of another kind
        yield
        return

    class CommOfNoCell(BaseComm):
        """Comm whose first message has no parent."""

        def open(self, *arguments: Any, **named: Any) -> None:
            kernel: Any = Kernel.instance()
            # What a comm uses of a kernel to send.
            parts = {"session": kernel.session, "iopub_socket": kernel.iopub_socket, "get_parent": lambda *channel: {}}
            self.kernel = cast("Any", SimpleNamespace(**parts))
            super().open(*arguments, **named)
            self.kernel = kernel

    with _opening:
        usual, comm.create_comm = comm.create_comm, CommOfNoCell
        try:
            yield
        finally:
            comm.create_comm = usual
