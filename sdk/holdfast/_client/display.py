"""How a handle comes to show itself in a notebook. What it shows is made in `holdfast.widgets`, not before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from holdfast.plans import Stop

if TYPE_CHECKING:
    from holdfast.widgets import Dashboard, UploadBox


class ShowsItself:
    """As the last line of a notebook's cell it is a live view; elsewhere it is HTML or text."""

    _shows: ClassVar[Literal["process", "transfer", "client", "processes", "files"]]

    def _repr_mimebundle_(self, **options: Any) -> Any:
        from holdfast.notebook._display import mimebundle

        return mimebundle(self)


class ShowsServer(ShowsItself):
    """What both clients show."""

    _shows = "client"

    def __init__(self) -> None:
        self._closed = Stop()
        """Set by `close`: views then stand still."""

    def dashboard(self) -> Dashboard:
        """A live panel of all processes, uploads and files, for a notebook; while it is open, the same one again.

        `holdfast.widgets.Dashboard(client)` makes another one, with a filter of its own. Needs the extra `notebook`.
        """
        from holdfast.widgets import Dashboard

        # Not a new one: ipywidgets keeps every widget until it is closed, however often the cell is run again.
        return Dashboard.of(self)  # type: ignore[arg-type] # it is one of the two clients


class ShowsProcesses(ShowsItself):
    """What `client.processes` shows."""

    _shows = "processes"


class ShowsFiles(ShowsItself):
    """What `client.files` shows and hands to the browser."""

    _shows = "files"

    def upload_box(self, prefix: str = "", *, overwrite: bool = False) -> UploadBox:
        """A box in a notebook that takes files from the person's own machine, of any size, and resumes by itself.

        The browser sends them straight to the server, which must let the notebook's page do so (`--allow-origin`;
        a `local_server()` does); else they go through the kernel, up to a size that the box says. What has arrived is
        in its trait `files`. Needs the extra `notebook`.

        Args:
            prefix: what is put before each file's name, such as "raw/".
            overwrite: files of the same name are replaced; else they are refused.
        """
        from holdfast.widgets import UploadBox

        return UploadBox(vars(self)["_client"], prefix, overwrite=overwrite)
