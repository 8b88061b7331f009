"""How a handle comes to show itself in a notebook. What it shows is made in `holdfast.widgets`, not before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from holdfast.widgets import Dashboard


class ShowsItself:
    """As the last line of a notebook's cell it is a live view; elsewhere it is HTML or text."""

    _shows: ClassVar[Literal["process", "transfer", "client", "processes", "files"]]

    def _repr_mimebundle_(self, **options: Any) -> Any:
        from holdfast.widgets._show import mimebundle

        return mimebundle(self)


class ShowsServer(ShowsItself):
    """What both clients show."""

    _shows = "client"

    def dashboard(self) -> Dashboard:
        """A live panel of all processes, uploads and files, for a notebook. Needs `holdfast[notebook]`."""
        from holdfast.widgets import Dashboard

        return Dashboard(self)  # type: ignore[arg-type] # it is one of the two clients


class ShowsProcesses(ShowsItself):
    """What `client.processes` shows."""

    _shows = "processes"


class ShowsFiles(ShowsItself):
    """What `client.files` shows."""

    _shows = "files"
