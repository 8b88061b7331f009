"""Principals: which scopes are in force, and what is said where one is missing."""

from __future__ import annotations

import pytest

from tornado_app.identity.principal import NOBODY, READ, RUN_CODE, SCOPES, WRITE, Principal, in_force
from tornado_app.problems import ProblemError


def test_without_scopes_of_this_service_all_are_in_force() -> None:
    assert in_force({"access:services!service=holdfast"}, per_user=False) == SCOPES


def test_where_users_are_kept_apart_running_code_is_given_by_name_alone() -> None:
    assert in_force(set(), per_user=True) == {READ, WRITE}
    assert in_force({RUN_CODE, READ}, per_user=True) == {RUN_CODE, READ}


def test_one_of_the_scopes_narrows_to_those_that_are_given() -> None:
    assert in_force({READ, "custom:other"}, per_user=False) == {READ}


def test_a_refusal_names_the_scope() -> None:
    with pytest.raises(ProblemError) as raised:
        Principal("ada", scopes=frozenset({READ})).check(WRITE)
    assert raised.value.kind.status == 403
    assert WRITE in raised.value.detail
    assert raised.value.members == {"scope": WRITE}


def test_one_of_several_scopes_is_enough() -> None:
    Principal(scopes=frozenset({WRITE})).check(READ, WRITE)


def test_nobody_may_do_anything() -> None:
    for scope in SCOPES:
        assert not NOBODY.may(scope)
