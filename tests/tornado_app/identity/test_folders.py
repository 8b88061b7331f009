"""Folders of users: safe as a segment of a path, and never two users' at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_app.files import names
from tornado_app.identity import folders
from tornado_app.identity.principal import NOBODY

NAMES = st.text(min_size=1, max_size=300)


@pytest.mark.slow
@given(NAMES, NAMES)
def test_two_names_have_two_folders_also_without_regard_to_case(one: str, other: str) -> None:
    same = folders.of_user(one).casefold() == folders.of_user(other).casefold()
    assert same == (one == other)


@pytest.mark.slow
@given(NAMES)
def test_a_folder_is_one_plain_segment(name: str) -> None:
    folder = folders.of_user(name)
    assert folder.isascii()
    assert folder.isprintable()
    assert not set(folder) & set('/\\:*?"<>| ')
    assert not folder.startswith(".")
    assert len(folder) <= 161
    assert not names.is_reserved(folder)
    assert folders.is_folder(folder)
    assert folder != NOBODY.folder
    assert names.flaw(folder) is None


def test_usual_names_are_readable() -> None:
    assert folders.of_user("ada") == "ada"
    assert folders.of_user("ada.lovelace@example.org") == "ada.lovelace@example.org"
    assert folders.of_user("Ada") == "%41da"
    assert folders.of_user("../bob") == "%2e.%2fbob"
    assert folders.of_user(".holdfast") == "%2eholdfast"
    assert folders.of_user("zoë") == "zo%c3%ab"


@pytest.mark.slow
@given(NAMES)
def test_a_service_is_never_a_user(name: str) -> None:
    assert folders.of_service(name) != folders.of_user(name)
    assert not folders.of_user("+" + name).startswith("+")
    assert folders.is_folder(folders.of_service(name))


def test_what_nobody_can_have_is_no_folder() -> None:
    for text in ("", ".", "..", "a/b", "%", "%4", "a%", ".hidden", "A", "a" * 400, "a\n", "+", "%."):
        assert not folders.is_folder(text), text
