"""Lines of a checksum file, as sha256sum of GNU coreutils writes them and `sha256sum -c` reads them."""

from __future__ import annotations

_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r"})


def checksum_line(digest: str, name: str) -> str:
    """Return one line, with its end. A backslash in front of the digest marks a name that had to be escaped."""
    written = name.translate(_ESCAPES)
    return f"{'' if written == name else chr(92)}{digest}  {written}\n"
