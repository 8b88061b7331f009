"""The documentation is whole and says what the code says: every operation, problem, transition and public name."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

import holdfast
import holdfast.work
import holdfast.work.testing
from holdfast import errors, wire
from holdfast._sync import client, files, transfers
from holdfast._transfers import handles
from holdfast.wire import State
from tests.support.servers import ServerProcess, free_port, wait_until
from tornado_app import problems
from tornado_app.handlers.openapi.document import Contract
from tornado_app.problems import Kind
from tornado_app.processes.states import ASKED, TRANSITIONS, Cause, legal
from tornado_app.routes import routes

ROOT = Path(__file__).parents[2]
CONTRACT = Contract(routes(None))  # type: ignore[arg-type]  # only handlers that serve need services


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def test_the_api_page_has_every_operation_as_the_contract_has_it() -> None:
    described = CONTRACT.document()["paths"]
    wanted = {
        f"| `{one.method.upper()} {one.path}` | {described[one.path][one.method]['summary']} |"
        for one in CONTRACT.endpoints
    }
    rows = {row for row in page("http-api.md").splitlines() if row.startswith("| `")}
    assert sorted(rows) == sorted(wanted)


def test_the_errors_page_has_every_kind_with_its_status_and_exception() -> None:
    wanted = set()
    for kind in (value for value in vars(problems).values() if isinstance(value, Kind)):
        raised = errors.from_answer(kind.status, {}, f'{{"type": "{kind.uri}"}}'.encode())
        wanted.add(f"| `{kind.slug}` | {kind.status} | `{type(raised).__name__}` | {kind.title}. ")
    rows = {row for row in page("errors.md").splitlines() if row.startswith("| `")}
    assert {row[: row.index(". ") + 2] for row in rows} == wanted
    assert all(len(row.split(". ", 1)[1]) > 20 for row in rows), "a row does not say what to do"


def test_what_is_possible_when_is_what_the_lifecycle_has() -> None:
    rows = [row for row in page("pause-from-a-script.md").splitlines() if row.startswith("| `")]
    assert rows == [
        f"| `{state}` | {', '.join(f'`{verb}`' for verb in legal(state)) or 'nothing: it has ended'} |"
        for state in State
    ]


def test_the_drawn_lifecycle_is_the_real_one() -> None:
    drawing = page("how-resuming-works.md").split("```text\n")[2].split("```")[0]
    asked: set[tuple[str, str, str]] = set()
    moved: set[tuple[str, str]] = set()
    for line in drawing.splitlines():
        steps = re.split(r" *(--\w+-->|->) *", line.strip())
        for before, arrow, after in zip(steps[::2], steps[1::2], steps[2::2], strict=False):
            for state in before.split(", "):
                if arrow == "->":
                    moved.add((state, after))
                else:
                    asked.add((state, arrow.strip("->"), after))
    kill = Cause.KILL  # changes no state by itself
    assert asked == {(a, cause, b) for (a, cause), b in TRANSITIONS.items() if cause in ASKED and cause is not kill}
    assert moved - {("start", "queued")} <= {(a, b) for (a, cause), b in TRANSITIONS.items() if cause not in ASKED}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("reference/holdfast.md", holdfast),
        ("reference/holdfast.md", errors),
        ("reference/holdfast.md", wire),
        ("reference/work.md", holdfast.work),
        ("reference/work.md", holdfast.work.testing),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
@pytest.mark.usefixtures("site")
def test_the_reference_has_every_public_name(site: Path, name: str, module: object) -> None:
    html = (site / name).with_suffix(".html").read_text(encoding="utf-8")
    names = [public for public in module.__all__ if not public.isupper()]  # type: ignore[attr-defined]
    assert [public for public in names if not re.search(rf'id="[\w.]+\.{public}"', html)] == []


@pytest.mark.slow
def test_the_reference_has_every_method_of_the_client(site: Path) -> None:
    html = (site / "reference/holdfast.html").read_text(encoding="utf-8")
    classes = [client.Client, client.Processes, client.Process, files.Files, transfers.Transfers]
    methods = [f"{cls.__name__}.{name}" for cls in [*classes, handles.Transfer] for name in vars(cls) if name[0] != "_"]
    assert [name for name in methods if f'{name}"' not in html] == []


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return folder


@pytest.mark.slow
def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    for path in site.rglob("*.html"):
        html = path.read_text(encoding="utf-8")
        assert not re.findall(r'(?:src|<link[^>]+href)="(?:https?:)?//[^"]+"', html), path.name


@pytest.mark.slow
def test_no_two_entries_of_the_site_have_one_name(site: Path) -> None:
    html = (site / "index.html").read_text(encoding="utf-8")
    link = r'<a href="[^"#]+" class="md-nav__link.*?<span class="md-ellipsis">\s*(.*?)\s*</span>'
    titles = [re.sub(r"<.*?>|\s+", " ", text).strip() for text in re.findall(link, html, re.S)]
    assert len(titles) > 20
    assert sorted(set(titles)) == sorted(titles)


@pytest.mark.slow
def test_a_reader_can_have_the_site_dark(site: Path) -> None:
    html = (site / "index.html").read_text(encoding="utf-8")
    choice = r'data-md-color-media="([^"]*)" data-md-color-scheme="(\w+)".*?aria-label="([^"]+)"'
    choices = re.findall(choice, html, re.S)
    assert [(media, scheme) for media, scheme, _ in choices] == [
        ("(prefers-color-scheme)", "default"),
        ("(prefers-color-scheme: light)", "default"),
        ("(prefers-color-scheme: dark)", "slate"),
    ]
    assert all(label for _, _, label in choices)


@pytest.fixture(params=["prefix", "base-url"])
def proxied(
    request: pytest.FixtureRequest, spawn_server: Callable[..., ServerProcess], tmp_path: Path
) -> Iterator[tuple[str, ServerProcess]]:
    """The URL of a real nginx with the configuration of the page, and the server behind it."""
    nginx = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if nginx is None:
        pytest.fail("no nginx here: tests/tools.sh installs it")
    flags = ["--base-url", "/holdfast/"] if request.param == "base-url" else []
    server, port = spawn_server("--trust-proxy", *flags, HOLDFAST_TOKEN="t0ken"), free_port()
    configuration, location = re.findall(r"```nginx\n(.*?)```", page("behind-nginx.md"), re.S)[:2]
    if flags:
        configuration = f"{configuration.partition('location')[0]}{location}}}\n"
    configuration = configuration.replace("127.0.0.1:8000", urlsplit(server.url).netloc)
    configuration = configuration.replace("listen 8080;", f"listen 127.0.0.1:{port};")
    temporary = "".join(
        f"{kind}_temp_path {tmp_path / kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (tmp_path / "nginx.conf").write_text(
        f"daemon off; worker_processes 1; pid {tmp_path / 'pid'}; error_log {tmp_path / 'error'};\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{temporary}{configuration}}}\n"
    )
    process = subprocess.Popen(
        [nginx, "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")], stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}/holdfast"
    try:
        with holdfast.Client(url, "t0ken", retries=0) as client:
            wait_until(lambda: _answers(client), what="nginx answers")
        yield url, server
    finally:
        process.send_signal(signal.SIGQUIT)
        process.wait(10)


def _answers(client: holdfast.Client) -> bool:
    try:
        return bool(client.work_types())
    except holdfast.HoldfastError:
        return False


@pytest.mark.slow
def test_everything_works_behind_nginx_as_the_page_sets_it_up(
    proxied: tuple[str, ServerProcess], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, _ = proxied
    monkeypatch.setenv("HOLDFAST_STATE_DIR", str(tmp_path / "state"))
    content = os.urandom(3 << 20)
    (tmp_path / "big.bin").write_bytes(content)
    with holdfast.Client(url, "t0ken") as client:
        client.files.upload(tmp_path / "big.bin", "folder of mine/bíg file.bin").wait(60)  # Locations carry the prefix
        path = client.files.download("folder of mine/bíg file.bin", tmp_path / "again.bin").wait(60)
        assert path.read_bytes() == content
        with pytest.raises(errors.NotFound) as refused:
            client.files.read("none")
        assert refused.value.type == "/holdfast/problems/no-such-file"
        link = client.files.download_link("folder of mine/bíg file.bin")
        assert httpx.get(link.url).content == content
        process = client.processes.start("manifest")
        states = [event.state for event in process.events() if event.type == "state"]
        assert states[-1] == "succeeded"
