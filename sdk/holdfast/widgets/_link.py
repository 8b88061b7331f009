"""A link to a file of the server, for the browser, which can go on with a download by itself."""

from __future__ import annotations

import time
from html import escape
from urllib.parse import quote

from holdfast.wire import link_signature


class DownloadLink:
    """`url` needs no token: where the server has one it is signed, and good until `expires` (seconds of the epoch)."""

    def __init__(self, base_url: str, name: str, token: str | None, seconds: float) -> None:
        self.name = name
        self.expires: int | None = None
        self.url = f"{base_url}/v1/files/{quote(name)}"
        if token:
            self.expires = int(time.time() + seconds)
            self.url += f"?expires={self.expires}&signature={link_signature(token, name, self.expires)}"

    def __str__(self) -> str:
        return self.url

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"  # without the URL: whoever has it may read the file

    def _repr_html_(self) -> str:
        name = escape(self.name.rpartition("/")[2])
        return f'<a href="{escape(self.url)}" download="{name}" target="_blank" rel="noreferrer">Download {name}</a>'
