"""Signed links: whoever has one may read one file until it expires, without a token."""

from __future__ import annotations

import hashlib
import hmac
import math
import time
from pathlib import Path
from urllib.parse import quote

from holdfast.wire import FileLink
from tornado_app import private, problems

KEY_FILE = "link-key"


class Links:
    """Signs links with a random key, and verifies them.

    A signature is HMAC-SHA-256, as hex, over the method, the time (seconds since the epoch) that a link is valid until,
    the word "archive" in a link to one, and the name.
    """

    def __init__(self, data_dir: Path, longest: float, *, user: str = "") -> None:
        """`longest`: seconds that a link may be valid for. `user`: the folder of whose files these are, "" for all.

        Raises `OSError`, `NotPrivateError`.
        """
        self._user = user
        self._path = data_dir / KEY_FILE
        self._longest = longest
        self._key = private.secret(self._path).encode()

    def sign(self, name: str, seconds: float, *, archive: str | None = None) -> FileLink:
        """Return a link to a file, which need not exist yet; with `archive` (zip, tar) to an archive of that folder.

        Raises:
            ProblemError: BAD_PARAMETERS for a time that is too long.
        """
        if not 0 < seconds <= self._longest:
            raise problems.BAD_PARAMETERS(
                f"a link can't be valid for {seconds:g} seconds. Give at most {self._longest:g} (--link-life)",
                field="seconds",
            )
        expires = math.ceil(time.time() + seconds)
        is_archive = archive is not None
        target = f"{name}.{archive}" if is_archive else name
        room = "archives" if is_archive else "files"
        where = f"/v1/{room}/{quote(target, errors='surrogateescape')}?expires={expires}"
        if self._user:  # the key is this user's own, so the signature says so, too
            where += f"&user={quote(self._user, safe='')}"
        return FileLink(name, f"{where}&signature={self._signature(target, expires, is_archive)}", expires)

    def refusal(self, name: str, expires: str | None, signature: str, *, archive: bool = False) -> str:
        """Return why a link is not valid, and what to do; "" when it is. `archive`: `name` is that of an archive."""
        if expires is None or not (expires.isascii() and expires.isdigit() and len(expires) < 15):
            return "a signed link carries expires=, in seconds since the epoch. Ask for a new link"
        good = self._signature(name, int(expires), archive)
        if not hmac.compare_digest(signature.encode("utf-8", "surrogateescape"), good.encode()):
            return "the signature is not for this file and time, or links were revoked. Ask for a new link"
        if int(expires) < time.time():
            return "the link has expired. Ask for a new one"
        if int(expires) > time.time() + self._longest + 1:  # it was made when links might live longer
            return f"the link is valid for longer than {self._longest:g} seconds. Ask for a new one"
        return ""

    def revoke(self) -> None:
        """Make all links that were given out invalid, by a new key. Blocks."""
        self._key = private.renew(self._path).encode()

    def _signature(self, name: str, expires: int, archive: bool) -> str:
        kind = "\narchive" if archive else ""  # no name of a file has a line break
        message = f"GET\n{expires}{kind}\n{name}".encode("utf-8", "surrogateescape")
        return hmac.new(self._key, message, hashlib.sha256).hexdigest()
