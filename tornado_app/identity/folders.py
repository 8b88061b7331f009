"""Names of the folders of users: safe as one segment of a path, and different for different users. Pure.

What stands for itself is lower-case letters, digits, `_`, `-`, `@` and, behind the first character, `.`; all else is
written as the bytes of its UTF-8, `%` and two digits each. So two folders never differ by case alone, none is hidden,
and none is the server's own. A long name keeps its beginning, and a digest of the whole follows `%.`.
"""

from __future__ import annotations

import hashlib
import re

_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789_-@")
_LONGEST = 160
_FOLDER = re.compile(r"\+?(?:[a-z0-9_@-]|%[0-9a-f]{2})(?:[a-z0-9_@.-]|%[0-9a-f]{2})*(?:%\.[0-9a-f]{40})?")
_SERVICE = "+"


def of_user(name: str) -> str:
    """Return the folder of a user of the hub."""
    encoded = "".join(_written(byte, index) for index, byte in enumerate(name.encode("utf-8", "surrogatepass")))
    if len(encoded) <= _LONGEST:
        return encoded
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:40]
    return f"{re.sub('%.?$', '', encoded[:100])}%.{digest}"


def of_service(name: str) -> str:
    """Return the folder of a service of the hub, which may have the name of a user."""
    return _SERVICE + of_user(name)


def is_folder(text: str) -> bool:
    """Return whether a text may be the folder of somebody; not every such text is."""
    return len(text) <= _LONGEST + 1 and _FOLDER.fullmatch(text) is not None


def _written(byte: int, index: int) -> str:
    if byte in _PLAIN or (byte == 0x2E and index):
        return chr(byte)
    return f"%{byte:02x}"
