"""Names that a download must not take where they would land."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

import holdfast
from holdfast import errors
from holdfast._local_files import dangerous_names
from holdfast._local_files.target import Target
from holdfast.cli._app import run
from holdfast.cli._context import Exit
from tests.support.servers import ServerProcess


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's home folder."""
    path = tmp_path / "home"
    path.mkdir()
    monkeypatch.setenv("HOME", str(path))
    return path


AT_HOME = [
    ".bashrc",
    ".BashRC",
    ".profile",
    ".zshenv",
    ".ssh/authorized_keys",
    ".ssh/rc",
    ".config/autostart/x.desktop",
    ".config/systemd/user/x.service",
    ".config/fish/config.fish",
    ".local/bin/ls",
    ".local/lib/python3.11/site-packages/usercustomize.py",
    ".ipython/profile_default/startup/00.py",
    ".gnupg/gpg.conf",
    ".netrc",
    ".gitconfig",
    ".vimrc",
    ".some-new-tool/rc",
    "bin/ls",
    "Library/LaunchAgents/x.plist",
]


@pytest.mark.parametrize("name", AT_HOME)
def test_what_is_run_or_trusted_at_home_is_refused(home: Path, name: str) -> None:
    with pytest.raises(errors.DangerousName, match="allow_dangerous=True"):
        dangerous_names.refuse([(name, home / name)])
    dangerous_names.refuse([(name, home / "backup" / name)])


@pytest.mark.parametrize("name", [".git/hooks/pre-commit", "a/.git/hooks/x", ".git/config", "a/.GIT/config", ".git"])
def test_what_the_next_git_command_runs_is_refused_anywhere(home: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(errors.DangerousName):
        dangerous_names.refuse([(name, tmp_path / "anywhere" / name)])


@pytest.mark.parametrize("folder", ["/root", "/home/somebody", "/Users/somebody"])
def test_homes_of_others_are_homes(home: Path, folder: str) -> None:
    with pytest.raises(errors.DangerousName):
        dangerous_names.refuse([(".bashrc", Path(folder, ".bashrc"))])
    dangerous_names.refuse([("notes.txt", Path(folder, "notes.txt"))])


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("data.csv", "data.csv"),
        ("a/.zattrs", "a/.zattrs"),
        (".gitattributes", "work/.gitattributes"),
        (".github/workflows/x.yml", "work/.github/workflows/x.yml"),
        ("models/x.bin", ".cache/models/x.bin"),
        ("x.npz", ".keras/datasets/x.npz"),
        ("data/binary/x", "data/binary/x"),
        ("bashrc.txt", ".bashrc"),  # the user has named the target by himself
    ],
)
def test_what_is_harmless_or_the_users_own_choice_is_allowed(home: Path, name: str, place: str) -> None:
    dangerous_names.refuse([(name, home / place)])


def test_the_way_to_the_place_does_not_matter(home: Path, tmp_path: Path) -> None:
    (home / ".ssh").mkdir()
    (tmp_path / "keys").symlink_to(home / ".ssh")
    (tmp_path / "me").symlink_to(home)
    for target in (tmp_path / "keys" / "authorized_keys", tmp_path / "me" / ".bashrc"):
        with pytest.raises(errors.DangerousName):
            dangerous_names.refuse([(target.name, target)])


def test_a_link_must_not_lead_out_of_the_folder(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "down"
    (folder / "in").mkdir(parents=True)
    (folder / "within").symlink_to("in")
    (folder / "out").symlink_to(tmp_path)
    dangerous_names.refuse([("within/x", folder / "within" / "x")], folder)
    with pytest.raises(errors.DangerousName, match="'out/x'"):
        dangerous_names.refuse([("a", folder / "a"), ("out/x", folder / "out" / "x")], folder)


@pytest.mark.parametrize("name", ["a/..", "a/.", "a/", "a/\0"])
def test_what_can_be_no_file_needs_a_name_of_its_own(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="does not end in the name of a file"):
        Target.of(f"{tmp_path}/").of_file(name)
    assert Target.of(tmp_path / "x").of_file(name) == tmp_path / "x"


@pytest.mark.slow
def test_every_way_down_refuses_unless_told(
    client: holdfast.Client,
    served: ServerProcess,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    prefix = uuid.uuid4().hex
    for name in ("bin/ls", "notes.txt"):
        client.files.write(f"{prefix}/{name}", b"x")
    monkeypatch.chdir(home)
    with pytest.raises(errors.DangerousName):
        client.files.download(f"{prefix}/bin/ls", "bin/").wait(30)
    with pytest.raises(errors.DangerousName, match="bin/ls"):
        client.files.download_folder(prefix).wait(30)
    for arguments in ([f"{prefix}/bin/ls", "--to", "bin/"], ["--folder", prefix]):
        assert run(["--url", served.url, "download", *arguments]) == Exit.REFUSED
        assert "--allow-dangerous" in capsys.readouterr().err
    assert list(home.iterdir()) == []
    client.files.download_folder(prefix, allow_dangerous=True).wait(30)
    assert (home / "bin" / "ls").read_bytes() == b"x"
    assert run(["--url", served.url, "download", "--folder", prefix, "--allow-dangerous"]) == 0
    (home / "bin" / "ls").unlink()
    assert run(["--url", served.url, "download", f"{prefix}/bin/ls", "--to", "bin/", "--allow-dangerous"]) == 0
    assert (home / "bin" / "ls").read_bytes() == b"x"


@pytest.mark.slow
async def test_the_async_face_refuses_too(aclient: holdfast.AsyncClient, home: Path) -> None:
    prefix = uuid.uuid4().hex
    await aclient.files.write(f"{prefix}/bin/ls", b"x")
    with pytest.raises(errors.DangerousName):
        await aclient.files.download_folder(prefix, home)
    with pytest.raises(errors.DangerousName):
        await aclient.files.download(f"{prefix}/bin/ls", f"{home}/bin/")
    assert not (home / "bin").exists()


@pytest.mark.slow
def test_fsspec_refuses_too_unless_told(client: holdfast.Client, served: ServerProcess, home: Path) -> None:
    from holdfast.filesystem import HoldfastFileSystem

    name = f"{uuid.uuid4().hex}/.profile"
    client.files.write(name, b"x")
    fs = HoldfastFileSystem(served.url, skip_instance_cache=True)
    with pytest.raises(errors.DangerousName):
        fs.get(name, str(home / ".profile"))
    assert list(home.iterdir()) == []
    fs.get(name, str(home / ".profile"), allow_dangerous=True)
    assert (home / ".profile").read_bytes() == b"x"
