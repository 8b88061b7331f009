"""Settings from flags, variables and defaults; an invalid one is refused by its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tornado_app import settings
from tornado_app.processes.work_context import check_databases
from tornado_app.settings import Settings, SettingsError, flag, read, variable


def test_defaults_are_good_as_they_are() -> None:
    assert read([], {}) == Settings()


def test_flags_win_over_the_environment_and_that_over_the_defaults() -> None:
    environment = {"HOLDFAST_PORT": "1", "HOLDFAST_CHUNK_SIZE": "2000", "HOLDFAST_MAX_RUNNING": ""}
    got = read(["--port", "2"], environment)
    assert (got.port, got.chunk_size, got.max_running) == (2, 2000, Settings().max_running)


def test_what_may_be_repeated_is_a_list_in_the_environment() -> None:
    got = read(
        ["--database", "a=sqlite:///a", "--database", "b=postgresql://u:p@h/d?x=1"],
        {"HOLDFAST_IMPORT": "one, two,", "HOLDFAST_ALLOW_HOST": "x.example", "HOLDFAST_DURABLE": "yes"},
    )
    assert got.import_ == ("one", "two")
    assert got.allow_host == ("x.example",)
    assert got.durable is True
    assert got.databases["b"] == "postgresql://u:p@h/d?x=1"
    assert got.databases["default"].startswith("sqlite:////")


def test_a_switch_can_be_turned_off_against_the_environment() -> None:
    assert read(["--no-durable"], {"HOLDFAST_DURABLE": "true"}).durable is False


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"HOLDFAST_PORT": "eighty"}, "HOLDFAST_PORT must be a whole number, not 'eighty'"),
        ({"HOLDFAST_PORT": "-1"}, "from 0 to 65535"),
        ({"HOLDFAST_SHUTDOWN_GRACE": "soon"}, "a number of seconds"),
        ({"HOLDFAST_SHUTDOWN_GRACE": "nan"}, "a number of seconds"),
        ({"HOLDFAST_SHUTDOWN_GRACE": "0"}, "more than 0"),
        ({"HOLDFAST_JOURNAL_INTERVAL": "-1"}, "0 or more"),
        ({"HOLDFAST_JOURNAL_INTERVAL": "inf"}, "a number of seconds"),
        ({"HOLDFAST_DURABLE": "perhaps"}, "true or false"),
        ({"HOLDFAST_LOG_FORMAT": "xml"}, "text, json"),
        ({"HOLDFAST_DATABASE": "x="}, "NAME=URL"),
        ({"HOLDFAST_CHUNK_SIZE": "3"}, "at least 4"),
        ({"HOLDFAST_ADDRESS": "10.0.0.1"}, "--token"),
        ({"HOLDFAST_ADDRESS": "example.org"}, "loopback only"),
        ({"HOLDFAST_TOKEN": " "}, "--token is empty"),
        ({"HOLDFAST_TOKEN": "a\nb"}, "one line of printable characters"),
        ({"HOLDFAST_ALLOW_HOST": "files.example:8000"}, "leave out the port, as in --allow-host files.example"),
        ({"HOLDFAST_ALLOW_HOST": "[::1]:8000"}, "leave out the port, as in --allow-host [::1]"),
        ({"HOLDFAST_ALLOW_HOST": "http://files.example:8000"}, "such as files.example"),
        *(
            ({"HOLDFAST_BASE_URL": path}, "--base-url must be a path of plain segments such as /holdfast/")
            for path in ("//a", "/a//b", "/a/../b", "..", "/a?b", "/a#b", "http://x/y", "/a%20b", "/a b", "/a\nb", "/ü")
        ),
        ({"HOLDFAST_ALLOW_HOST": "https://files.example"}, "such as files.example"),
        ({"HOLDFAST_ALLOW_HOST": "*.example"}, "such as files.example"),
        ({"HOLDFAST_ALLOW_ORIGIN": "lab.example"}, "--allow-origin lab.example: write it as browsers send it"),
        ({"HOLDFAST_ALLOW_ORIGIN": "https://lab.example/"}, "no path"),
        ({"HOLDFAST_ALLOW_ORIGIN": "https://Lab.example"}, "no capitals"),
        ({"HOLDFAST_ALLOW_ORIGIN": "https://lab.example:443"}, "no default port"),
        ({"HOLDFAST_ALLOW_ORIGIN": "https://lab.example:x"}, "https://notebooks.example"),
        ({"HOLDFAST_ALLOW_ORIGIN": "*"}, "https://notebooks.example"),
    ],
    ids=lambda value: str(value),
)
def test_what_cannot_be_is_refused_by_name(environment: dict[str, str], says: str) -> None:
    with pytest.raises(SettingsError, match=r".+") as caught:
        read([], environment)
    assert says in str(caught.value)


def test_callers_that_can_come_may_be_allowed() -> None:
    hosts, origins = (
        "files.example,files,10.0.0.1,::1,[::1]",
        "https://lab.example,http://10.0.0.1:8888,http://[::1]:1,null",
    )
    got = read([], {"HOLDFAST_ALLOW_HOST": hosts, "HOLDFAST_ALLOW_ORIGIN": origins})
    assert (",".join(got.allow_host), ",".join(got.allow_origin)) == (hosts, origins)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_needs_no_token(address: str) -> None:
    assert read(["--address", address], {}).address == address


def test_the_token_comes_from_a_file_without_its_line_end(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("abc\n", encoding="utf-8")
    assert read(["--token-file", str(path), "--address", "0.0.0.0"], {}).auth_token == "abc"
    path.write_text("\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="is empty"):
        read(["--token-file", str(path)], {})
    path.write_bytes(b"\xff")
    with pytest.raises(SettingsError, match="is not UTF-8"):
        read(["--token-file", str(path)], {})


@pytest.mark.parametrize("environment", [{}, {"HOLDFAST_TOKEN": "t", "HOLDFAST_SAME_USER": "true"}])
def test_behind_a_proxy_everybody_brings_the_token(environment: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="--trust-proxy needs a token"):
        read(["--trust-proxy"], environment)
    assert read(["--trust-proxy"], {"HOLDFAST_TOKEN": "t"}).trust_proxy is True
    # A proxy of the same user, which checks who its clients are: nobody else can open the socket.
    assert read(["--trust-proxy", "--socket", "/run/s", "--same-user"], environment).trust_proxy is True


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_token_that_others_can_write_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "token"
    path.write_text("abc\n", encoding="utf-8")
    path.chmod(mode)
    with pytest.raises(SettingsError, match="chmod go-w"):
        read(["--token-file", str(path)], {})
    path.chmod(0o644)  # as containers mount their secrets
    assert read(["--token-file", str(path)], {}).auth_token == "abc"


def test_blanks_around_a_token_are_no_part_of_it() -> None:
    assert read(["--address", "0.0.0.0"], {"HOLDFAST_TOKEN": " abc\n"}).auth_token == "abc"


def test_a_database_that_is_refused_is_not_told_with_its_password() -> None:
    for flags, environment in (
        (["--database", "postgres://u:hunter2@h/d"], {}),
        ([], {"HOLDFAST_DATABASE": "hunter2"}),
    ):
        with pytest.raises(SettingsError, match=r"must be NAME=URL$"):
            read(flags, environment)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("hunter2", "no SQLAlchemy URL"),
        ("postgresql://u:hunter2@h:x/d", "no SQLAlchemy URL"),
        ("sqlite://u:hunter2@h/d", "no SQLAlchemy URL"),
        ("nosuch://u:hunter2@h/d", "its driver is not installed"),
        ("postgresql+nosuch://u:hunter2@h/d", "its driver is not installed"),
    ],
)
def test_a_database_that_can_not_be_is_refused_at_the_start(url: str, says: str) -> None:
    with pytest.raises(SettingsError, match=f"^--database x: .*{says}") as caught:
        check_databases(Settings(database={"x": url}))
    assert "hunter2" not in str(caught.value)
    check_databases(Settings(database={"x": "sqlite:///nowhere/at/all"}))


def test_no_secret_shows_in_the_settings_text() -> None:
    assert "hunter2" not in repr(Settings(token="hunter2", database={"x": "postgresql://u:hunter2@h/d"}))


def test_flag_and_variable_are_the_same_name() -> None:
    assert (flag("files_dir"), variable("files_dir")) == ("--files-dir", "HOLDFAST_FILES_DIR")
    assert (flag("import_"), variable("import_")) == ("--import", "HOLDFAST_IMPORT")
    assert settings.is_loopback("not an address") is False


@pytest.mark.parametrize(
    ("given", "found"),
    [("/", "/"), ("a", "/a/"), ("/a", "/a/"), ("a/b/", "/a/b/"), ("/user/jo.x/~h_-/", "/user/jo.x/~h_-/")],
)
def test_a_base_url_begins_and_ends_with_a_slash(given: str, found: str) -> None:
    assert read([], {"HOLDFAST_BASE_URL": given}).base_url == found
    assert read(["--base-url", given], {}).base_url == found
