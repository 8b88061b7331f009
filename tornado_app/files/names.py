"""Names of files: pure checks, no disk. The same rules hold for every protocol."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from typing import NoReturn

from tornado_app import problems

RESERVED = ".holdfast"
"""The folder of the files directory that holds the server's own state: staged bytes and digests."""

SEGMENT_BYTES = 255
NAME_BYTES = 1024

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# Default_Ignorable_Code_Point of Unicode 15 (DerivedCoreProperties.txt), the other format characters that show nothing
# (category Cf), and the blank of Braille: a name with one of them reads as another name, or in another order.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u202a-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U000110bd\U000110cd"
    "\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_SEEN = re.compile("[\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd\U00013430-\U0001343f]")
_NON_JOINER, _JOINER = "\u200c", "\u200d"
_EMOJI_STYLE, _KEYCAP = "\ufe0f", "\u20e3"
_HAS_VARIANTS = re.compile("[\u1000-\u109f\u3400-\u9fff\ua840-\ua877\uf900-\ufaff\U00020000-\U0003ffff]")
# England, Scotland and Wales: the sequences of tags that are shown (UTS #51, RGI).
_FLAGS = re.compile(
    "\U0001f3f4(?:"
    + "|".join("".join(chr(0xE0000 + ord(c)) for c in region) for region in ("gbeng", "gbsct", "gbwls"))
    + ")\U000e007f"
)
_VIRAMA = 9  # the canonical combining class


def check(name: str) -> str:
    """Return `name` if a file may be given it: a relative POSIX path in UTF-8 that hides, escapes and confuses nothing.

    Raises:
        ProblemError: BAD_NAME, saying which rule it breaks.
    """
    reason = flaw(name)
    return name if reason is None else _refuse(name, reason)


def check_reachable(name: str) -> str:
    """Return `name` if a file may have it already: `check` without the rule on invisible characters.

    Files by such names may stand there from earlier versions or by hand; they can be read, listed and deleted.
    """
    reason = structural_flaw(name)
    return name if reason is None else _refuse(name, reason)


@lru_cache(maxsize=1024)
def flaw(name: str) -> str | None:
    """Return why a file can't be given `name`, or None when it can."""
    return structural_flaw(name) or (None if name.isascii() else _deception(name))


@lru_cache(maxsize=1024)
def structural_flaw(name: str) -> str | None:
    """Return why no file can ever be known by `name`, or None."""
    if not name:
        return "it is empty. Give a relative path such as data/flights.csv"
    try:
        encoded = name.encode("utf-8")
    except UnicodeEncodeError:
        return "it is not UTF-8"
    if len(encoded) > NAME_BYTES:
        return f"it has {len(encoded)} bytes; {NAME_BYTES} are allowed"
    if _CONTROL.search(name):
        return "it has control characters"
    if "\\" in name:
        return "it has a backslash. Folders are separated by /"
    if name.startswith("/"):
        return "it is absolute. Give a path relative to the files directory"
    segments = name.split("/")
    for segment in segments:
        if not segment:
            return "it has an empty segment. A name has no // and no / at the end"
        if segment in (".", ".."):
            return f"its segment {segment!r} names no file. Give the path without . and .. segments"
        if len(segment) * 4 > SEGMENT_BYTES and len(segment.encode("utf-8")) > SEGMENT_BYTES:
            return f"a segment has more than {SEGMENT_BYTES} bytes"
    if is_reserved(segments[0]):
        return f"the folder {RESERVED} is reserved for the server. Choose another name"
    return None


def is_reserved(segment: str) -> bool:
    """Return whether a first segment is the server's own folder, also on file systems that ignore case."""
    return segment.startswith(".") and segment.casefold() == RESERVED


def _refuse(name: str, reason: str) -> NoReturn:
    raise problems.BAD_NAME(f"{name[:200]!r} is not a file name here: {reason}", field="file_name")


def _deception(name: str) -> str | None:
    for match in _INVISIBLE.finditer(name):
        if not _has_effect(name, match.start()):
            found = match[0]
            called = unicodedata.name(found, "an invisible character")
            return f"it has the invisible character U+{ord(found):04X} ({called}). Leave it out"
    return None


def _has_effect(name: str, at: int) -> bool:
    """Return whether writing needs an invisible character, so that without it the name would look different.

    Joiners as RFC 5892 (appendix A) allows them and as emoji are composed (UTS #51); signs that Unicode counts as
    format characters although they are seen.
    """
    found, before, after = name[at], name[at - 1 : at], name[at + 1 : at + 2]
    if _SEEN.match(found):
        return True
    if found in (_NON_JOINER, _JOINER):
        if before and unicodedata.combining(before) == _VIRAMA:
            return True
        if found == _NON_JOINER:
            return _is_joined(reversed(name[:at])) and _is_joined(name[at + 1 :])
        return (_is_pictorial(before) or before == _EMOJI_STYLE) and _is_pictorial(after)
    if found == _EMOJI_STYLE and before in (*"#*0123456789",):
        return after == _KEYCAP
    if "\ufe00" <= found <= "\ufe0f" or "\U000e0100" <= found <= "\U000e01ef":
        return _is_pictorial(before) or bool(_HAS_VARIANTS.fullmatch(before))
    if "\u180b" <= found <= "\u180f":
        return "\u1820" <= before <= "\u18aa"  # Mongolian letters
    return any(flag.start() <= at < flag.end() for flag in _FLAGS.finditer(name))


def _is_joined(characters: Iterable[str]) -> bool:
    """Return whether the first one that is no mark is a letter of a script that is written joined."""
    for character in characters:
        direction = unicodedata.bidirectional(character)
        if direction != "NSM":
            return direction == "AL"
    return False


def _is_pictorial(character: str) -> bool:
    """Return whether emoji are composed of it."""
    return bool(character) and (
        unicodedata.category(character) in ("So", "Sm", "Sk") or character in "\u203c\u2049\u3030\u303d"
    )
