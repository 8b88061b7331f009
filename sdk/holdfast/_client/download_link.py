"""Link to a file on the server, for a browser, which can resume the download itself."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from holdfast._client import display
from holdfast.wire import FileLink

if TYPE_CHECKING:
    from holdfast._client.core import AnyCore


class DownloadLink:
    """Signed link to a file. `url` needs no token and is valid until `expires` (seconds since the epoch).

    A notebook shows it as a link by the address at which the page reaches the server, as far as `core` is known.
    """

    def __init__(self, base_url: str, link: FileLink, core: AnyCore | None = None) -> None:
        self.name = link.name
        self.expires = link.expires
        self.path = _below_the_server(link)
        self.url = base_url + self.path
        self._core = core

    def __str__(self) -> str:
        return self.url

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"  # without the URL, because anyone who has it can read the file

    def _repr_html_(self) -> str:
        name = escape(self.name.rpartition("/")[2])
        if not self.url.startswith(("http:", "https:", "/")):
            return f"Download {name}: no browser reaches the server's socket. Run the cell in JupyterLab"
        return f'<a href="{escape(self.url)}" download="{name}" target="_blank" rel="noreferrer">Download {name}</a>'

    def _repr_mimebundle_(self, **options: Any) -> Any:
        bundle = {"text/plain": repr(self), "text/html": self._repr_html_()}
        if self._core is None:
            return bundle
        live = display.current().download_link(self._core, self)
        data, metadata = live if isinstance(live, tuple) else (live, {})
        return {**(data or {}), **bundle}, metadata


def _below_the_server(link: FileLink) -> str:
    """Return the link's path without what stands before `/v1`: by this base URL it is reached under another path."""
    path, _, query = link.url.partition("?")
    segments = path.split("/")[-(link.name.count("/") + 1) - len(("v1", "files")) :]
    return f"/{'/'.join(segments)}?{query}"
