"""Names that a download must not take where they would land: what is there is run, or lets somebody in. It blocks."""

from __future__ import annotations

import functools
import os
import pwd
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from holdfast._local_files.part_file import is_private
from holdfast.errors import DangerousName

# Below a home folder, whoever chose the place. One line a kind; names are compared without regard to case.
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
# Wherever it is: the next git command runs it.
_ANYWHERE = re.compile(r"(.*/)?\.git(/(hooks/.*|config(\.worktree)?|modules/.*))?", re.IGNORECASE | re.DOTALL)


def refuse(places: Iterable[tuple[str, Path]], folder: Path | None = None) -> None:
    """Check where names of the server would land: pairs of name and target.

    The part of a target that differs from the name is the user's own choice; the rest is the server's. With `folder`,
    no link inside of it may lead out of it.

    Raises:
        DangerousName: with all that would be dangerous.
    """
    homes = _homes(os.path.expanduser("~"), os.geteuid())
    real = _Real()
    inside = None if folder is None else real.path(folder)
    found: list[str] = []
    for name, target in places:
        parent = real.path(target.parent)
        named = _named(name, target)
        leaves = inside is not None and not parent.is_relative_to(inside)
        if leaves or is_private(target.name) or (named and _is_dangerous(parent / target.name, named, homes)):
            found.append(f"{name!r} (to {target})")
    if found:
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        raise DangerousName(
            f"{', '.join(found[:3])}{more} would be dangerous there: programs run or trust files of such names, or a "
            "link leads out of the folder. Fetch to another folder, or say allow_dangerous=True"
        )


class _Real:
    """Real paths of folders, each looked up once."""

    def __init__(self) -> None:
        self._known: dict[Path, Path] = {}

    def path(self, folder: Path) -> Path:
        if folder not in self._known:
            self._known[folder] = Path(os.path.realpath(folder))
        return self._known[folder]


def _named(name: str, target: Path) -> int:
    """How many parts at the end of a target are the name's own."""
    count = 0
    for ours, theirs in zip(reversed(target.parts), reversed(PurePosixPath(name).parts), strict=False):
        if ours != theirs:
            break
        count += 1
    return count


def _is_dangerous(path: Path, named: int, homes: Sequence[Path]) -> bool:
    if _ANYWHERE.fullmatch(path.as_posix()):
        return True
    others = [Path(*path.parts[:3])] if len(path.parts) > 3 and path.parts[1].casefold() in ("home", "users") else []
    for home in (*homes, *others):
        if path.is_relative_to(home) and path != home:
            below = path.relative_to(home)
            # A name that brings a hidden folder of its own into a home is meant for some program's settings.
            hidden = len(below.parts) <= named and below.parts[0].startswith(".")
            if hidden or _AT_HOME.fullmatch(below.as_posix()):
                return True
    return False


@functools.lru_cache(maxsize=4)
def _homes(home: str, user: int) -> tuple[Path, ...]:
    """The user's own home folders, as the environment and as the system have it, and root's."""
    found = {Path(os.path.realpath(home)), Path("/root")}
    try:
        found.add(Path(os.path.realpath(pwd.getpwuid(user).pw_dir)))
    except KeyError:  # a user without an entry, as in containers
        pass
    return tuple(sorted(found))
