"""A link to a file of the server, for the browser, which can go on with a download by itself."""

from __future__ import annotations

from html import escape

from holdfast.wire import FileLink


class DownloadLink:
    """`url` needs no token, and is good until `expires` (seconds since the epoch)."""

    def __init__(self, base_url: str, link: FileLink) -> None:
        self.name = link.name
        self.expires = link.expires
        self.url = base_url + link.url

    def __str__(self) -> str:
        return self.url

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"  # without the URL: whoever has it may read the file

    def _repr_html_(self) -> str:
        name = escape(self.name.rpartition("/")[2])
        return f'<a href="{escape(self.url)}" download="{name}" target="_blank" rel="noreferrer">Download {name}</a>'
