"""Targets that a download must not write: files there are run, or give access to the machine. Blocks."""

from __future__ import annotations

import functools
import os
import pwd
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from holdfast._local_files.part_file import is_private
from holdfast.errors import DangerousName

# Paths below a home folder, even if the user chose the folder. Case is ignored.
_AT_HOME = re.compile(
    r"""
      \.(bash|zsh|ksh|mksh|csh|tcsh|fish)[^/]* | \.z(shrc|shenv|profile|login|logout) | \.(profile|login|logout|kshrc)
    | \.(xinitrc|xsession|xsessionrc|xprofile|xserverrc|inputrc|pam_environment|environment|forward|procmailrc)
    | \.(rhosts|shosts|netrc|pgpass|npmrc|yarnrc.*|pypirc|condarc|curlrc|wgetrc|screenrc|tmux\.conf|terminfo(/.*)?)
    | \.(gitconfig|hgrc|vimrc|gvimrc|exrc|nanorc|emacs|gdbinit|lldbinit|pdbrc|rprofile|renviron|octaverc|irbrc|perldb)
    | \.(ssh|gnupg|aws|azure|kube|docker|git|vim|emacs\.d|ipython|jupyter|cargo|npm|gem|julia|matlab|mozilla)(/.*)?
    | \.config(/.*)? | \.local/(bin|lib|etc|share/(applications|systemd|dbus-1|jupyter|nautilus|kservices5))(/.*)?
    | s?bin/.* | library/(launchagents|launchdaemons|preferences|application\ scripts)(/.*)?
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
# In any folder: the next git command runs it.
_ANYWHERE = re.compile(r"(.*/)?\.git(/(hooks/.*|config(\.worktree)?|modules/.*))?", re.IGNORECASE | re.DOTALL)


def refuse(places: Iterable[tuple[str, Path]], folder: Path | None = None) -> None:
    """Check pairs of a name on the server and its local target.

    The part of a target that is not part of the name was chosen by the user, the rest by the server. With `folder`, no
    link inside it may lead out of it.

    Raises:
        DangerousName: some targets are dangerous; the message names them.
    """
    homes = _homes(os.path.expanduser("~"), os.geteuid())
    inside = None if folder is None else Path(os.path.realpath(folder))
    folders: dict[str, _Folder] = {}
    found: list[str] = []
    for name, target in places:
        parent, last = os.path.split(target)
        place = folders.get(parent)
        if place is None:
            place = folders[parent] = _folder(parent, inside, homes)
        if place.leaves or is_private(last):
            found.append(f"{name!r} (to {target})")
        elif place.is_harmless and not last.casefold().startswith(".git"):
            continue
        elif (named := _named(name, target)) and _is_dangerous(place.real / last, named, homes):
            found.append(f"{name!r} (to {target})")
    if found:
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        raise DangerousName(
            f"{', '.join(found[:3])}{more} would be dangerous there: programs run or trust files of such names, or a "
            "link leads out of the folder. Fetch to another folder, or pass allow_dangerous=True"
        )


@dataclass(frozen=True, slots=True)
class _Folder:
    """Folder of targets: where it really is, and whether any name in it is harmless but for those of git."""

    real: Path
    leaves: bool
    is_harmless: bool


def _folder(path: str, inside: Path | None, homes: Sequence[Path]) -> _Folder:
    real = Path(os.path.realpath(path))
    return _Folder(real, inside is not None and not real.is_relative_to(inside), _is_harmless(real, homes))


def _is_harmless(folder: Path, homes: Sequence[Path]) -> bool:
    """Return whether `_is_dangerous` is false for all names in a folder that do not begin with .git."""
    if ".git" in folder.as_posix().casefold():
        return False
    for home in (*homes, *_other_homes(folder / "any")):
        if folder == home:
            return False
        if folder.is_relative_to(home):
            first = folder.relative_to(home).parts[0].casefold()
            if first.startswith(".") or first in ("bin", "sbin", "library"):
                return False
    return True


def _other_homes(path: Path) -> list[Path]:
    """Return the home of another user that a path is in."""
    parts = path.parts
    return [Path(*parts[:3])] if len(parts) > 3 and parts[1].casefold() in ("home", "users") else []


def _named(name: str, target: Path) -> int:
    """Return how many parts at the end of a target come from the name."""
    count = 0
    for ours, theirs in zip(reversed(target.parts), reversed(PurePosixPath(name).parts), strict=False):
        if ours != theirs:
            break
        count += 1
    return count


def _is_dangerous(path: Path, named: int, homes: Sequence[Path]) -> bool:
    if _ANYWHERE.fullmatch(path.as_posix()):
        return True
    for home in (*homes, *_other_homes(path)):
        if path.is_relative_to(home) and path != home:
            below = path.relative_to(home)
            # A hidden folder in a home that comes with the name holds settings of some program.
            hidden = len(below.parts) <= named and below.parts[0].startswith(".")
            if hidden or _AT_HOME.fullmatch(below.as_posix()):
                return True
    return False


@functools.lru_cache(maxsize=4)
def _homes(home: str, user: int) -> tuple[Path, ...]:
    """Return the home folders of the user, by the environment and by the system, and that of root."""
    found = {Path(os.path.realpath(home)), Path("/root")}
    try:
        found.add(Path(os.path.realpath(pwd.getpwuid(user).pw_dir)))
    except KeyError:  # a user without an entry, as in containers
        pass
    return tuple(sorted(found))
