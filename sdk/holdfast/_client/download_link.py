"""Link to a file on the server, for a browser, which can resume the download itself."""

from __future__ import annotations

from html import escape

from holdfast.wire import FileLink


class DownloadLink:
    """Signed link to a file. `url` needs no token and is valid until `expires` (seconds since the epoch)."""

    def __init__(self, base_url: str, link: FileLink) -> None:
        self.name = link.name
        self.expires = link.expires
        self.url = base_url + _below_the_server(link)

    def __str__(self) -> str:
        return self.url

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"  # without the URL, because anyone who has it can read the file

    def _repr_html_(self) -> str:
        name = escape(self.name.rpartition("/")[2])
        return f'<a href="{escape(self.url)}" download="{name}" target="_blank" rel="noreferrer">Download {name}</a>'


def _below_the_server(link: FileLink) -> str:
    """Return the link's path without what stands before `/v1`: by this base URL it is reached under another path."""
    path, _, query = link.url.partition("?")
    segments = path.split("/")[-(link.name.count("/") + 1) - len(("v1", "files")) :]
    return f"/{'/'.join(segments)}?{query}"
