"""Principals: the name of whoever sends a request, and what that person or program may do. Values, without I/O."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from tornado_app import problems

READ = "custom:holdfast:read"
WRITE = "custom:holdfast:write"
RUN_CODE = "custom:holdfast:run-code"
SCOPES = frozenset({READ, WRITE, RUN_CODE})
"""The scopes that narrow what a principal may do, by the names that a JupyterHub gives them."""


@dataclass(frozen=True)
class Principal:
    """User, service or nameless caller that sends a request. `scopes` are those of `SCOPES` that are in force.

    `name` is "" where there are no names: whoever is admitted is then the same to the server. `folder` names the folder
    of this principal's files, "" for the one that all share.
    """

    name: str = ""
    groups: frozenset[str] = frozenset()
    scopes: frozenset[str] = SCOPES
    admin: bool = False
    folder: str = ""

    def may(self, scope: str) -> bool:
        """Return whether a scope is in force."""
        return scope in self.scopes

    def check(self, *any_of: str) -> None:
        """Raise FORBIDDEN_SCOPE unless one of these scopes is in force."""
        if self.scopes.isdisjoint(any_of):
            raise missing(any_of[0])


NOBODY = Principal(scopes=frozenset(), folder="%")
"""Whoever has not been admitted, on a server that keeps users apart: no user has this folder, and nothing is in it."""

EVERYBODY = Principal()
"""Whoever was admitted, on a server that knows no names."""


def missing(scope: str) -> problems.ProblemError:
    """Return the refusal of a request that lacks a scope."""
    return problems.FORBIDDEN_SCOPE(
        f"the scope {scope} is missing. Ask an administrator of the hub for a role with it, or use a token that has it",
        scope=scope,
    )


def in_force(given: Collection[str], *, per_user: bool) -> frozenset[str]:
    """Return the scopes in force for a principal that was given these by the hub, among others.

    Without any of `SCOPES` a principal may do all. Where users are kept apart, running code has to be given by name:
    code runs as the server, and so reaches the files of all.
    """
    found = SCOPES.intersection(given)
    if found:
        return found
    return SCOPES - {RUN_CODE} if per_user else SCOPES
