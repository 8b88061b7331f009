"""Fixtures of all tests: native `async def` tests and fixtures, a server in this process, servers in their own.

pytest-tornado runs a test that is marked `gen_test` on the fixture `io_loop`. Here every `async def` test gets that
mark, and async fixtures run on the same loop, so a test reads as if there were no plugin.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import inspect
import os
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import hypothesis
import pytest
from tornado.ioloop import IOLoop

from tests.support import network, quarter_second
from tests.support.servers import ServerProcess, children_of_this_process
from tornado_app.settings import SWITCH_INTERVAL, Settings

if TYPE_CHECKING:
    from tornado_app.app import App


# A deadline would be a statement about the machine.
hypothesis.settings.register_profile("holdfast", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("holdfast")


def pytest_configure(config: pytest.Config) -> None:
    trust_one_certificate()
    read_entry_points_once()
    keep_state_out_of_the_home(config)
    give_signals_their_defaults()
    quarter_second.register(config)


def trust_one_certificate() -> None:
    """Let clients of this process and its children read one certificate, of nobody, in place of all of the system.

    To read those takes a client that is made 15 ms of the processor, and two thousand are made. What needs the network
    in spite of that (an installation by pip) gets `tests.support.network.CERTIFICATES`.
    """
    network.CERTIFICATES.update({name: os.environ.pop(name) for name in network.NAMES if name in os.environ})
    os.environ["SSL_CERT_FILE"] = str(Path(__file__).with_name("support") / "nobody.pem")


def read_entry_points_once() -> None:
    """Remember the entry points of what is installed: each server that starts here would read all their files."""
    read = metadata.entry_points

    @functools.cache
    def remembered(path: tuple[str, ...], arguments: tuple[tuple[str, str], ...]) -> Any:
        return read(**dict(arguments))

    metadata.entry_points = lambda **arguments: remembered(tuple(sys.path), tuple(arguments.items()))  # type: ignore[assignment]


def keep_state_out_of_the_home(config: pytest.Config) -> None:
    """Give the SDK and the servers of this run a state folder of their own: each server writes a note into it."""
    folder = tempfile.TemporaryDirectory(prefix="holdfast-state-", ignore_cleanup_errors=True)
    config.add_cleanup(folder.cleanup)
    os.environ["HOLDFAST_STATE_DIR"] = folder.name


def give_signals_their_defaults() -> None:
    """Give this process and its children the signals of a process that a terminal starts.

    A shell starts what it puts into the background with SIGINT and SIGQUIT ignored, and nohup ignores SIGHUP. Children
    inherit that across exec, while a signal that has a handler gets its default action back.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    kept = {signal.SIGPIPE, signal.SIGXFSZ}  # Python ignores them, and gives them back to its children
    for number in signal.valid_signals() - kept:
        if signal.getsignal(number) is signal.SIG_IGN:
            interrupt = number == signal.SIGINT
            signal.signal(number, signal.default_int_handler if interrupt else _stay_alive)


def _stay_alive(_number: int, _frame: object) -> None:
    """Do what ignoring a signal does."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if inspect.iscoroutinefunction(getattr(item, "obj", None)):
            item.add_marker(pytest.mark.gen_test)
        if "postgres_server" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    """Leave what has been collected out of every later collection of garbage, of which a full one takes a second."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Keep what coverage has recorded while xdist waits: at its exit a worker has ten seconds, then it is killed."""
    coverage = sys.modules.get("coverage")
    if coverage is not None and (current := coverage.Coverage.current()) is not None:
        current.save()


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> Iterator[Any]:
    """Run async fixtures on `io_loop`, which is thereby set up before them and closed after them."""
    function = fixturedef.func
    if inspect.isasyncgenfunction(function) or inspect.iscoroutinefunction(function):
        fixturedef.func = _on_loop(function, request.getfixturevalue("io_loop"))  # type: ignore[misc]
    try:
        return (yield)
    finally:
        fixturedef.func = function  # type: ignore[misc]


def _on_loop(function: Callable[..., Any], io_loop: IOLoop) -> Callable[..., Any]:
    """The same fixture as a plain function (or generator) that runs `function` on the loop."""

    def value(**arguments: Any) -> Any:
        return io_loop.run_sync(functools.partial(function, **arguments))

    def generator(**arguments: Any) -> Iterator[Any]:
        running = function(**arguments)
        yield io_loop.run_sync(functools.partial(anext, running))
        with contextlib.suppress(StopAsyncIteration):
            io_loop.run_sync(functools.partial(anext, running))

    return generator if inspect.isasyncgenfunction(function) else value


@pytest.fixture(scope="session", autouse=True)
def switch_interval() -> None:
    """As in a server. With the interpreter's own, as long as a turn of the loop, a thread may wait for ever.

    Whoever waits for the GIL asks for it after an interval in which nobody let go of it; a loop that lets go at the end
    of each turn and takes it again at once is never asked.
    """
    sys.setswitchinterval(SWITCH_INTERVAL)


@pytest.fixture
def io_loop() -> Iterator[IOLoop]:
    """The loop of one test, in place of pytest-tornado's, which relies on what newer asyncio has dropped."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    io_loop = IOLoop(asyncio_loop=loop, make_current=False)  # type: ignore[call-arg]
    yield io_loop
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    asyncio.set_event_loop(None)
    io_loop.close()


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Every test ends the threads and processes that it started."""
    threads, processes = set(threading.enumerate()), children_of_this_process()
    yield
    deadline = time.monotonic() + 5

    def left() -> list[Any]:
        started = [t for t in threading.enumerate() if t not in threads and not t.daemon]
        return [*started, *(children_of_this_process() - processes)]

    while left() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left(), "threads and processes that the test left behind"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a server that touches nothing but this test's folder, on a port of its own.

    It never cuts a connection for being slow, so that a test sees what else ends one, and a slow machine ends none.
    """
    (tmp_path / "files").mkdir()
    folders = {"files_dir": tmp_path / "files", "data_dir": tmp_path / "data"}
    return Settings(port=0, idle_timeout=3600, send_timeout=3600, **folders)


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[App]:
    """The server's services in this process, open; override `settings` for others."""
    from tornado_app.app import App  # most tests need no server, and start quicker without

    app = await App.open(settings)
    yield app
    await app.close()


@pytest.fixture
async def server(app: App) -> App:
    """`app`, listening on `app.port`."""
    app.listen()
    return app


@pytest.fixture
def base_url(server: App) -> str:
    """Return the URL of `server`, without a slash at the end."""
    return f"http://127.0.0.1:{server.port}"


@pytest.fixture
async def http(base_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A plain HTTP client of `server`."""
    async with httpx.AsyncClient(base_url=base_url, timeout=30) as client:
        yield client


@pytest.fixture
def spawn_server(tmp_path: Path) -> Iterator[Callable[..., ServerProcess]]:
    """Starts `python -m tornado_app` in this test's folder: `spawn_server("--chunk-size", "9", HOLDFAST_TOKEN="t")`."""
    started: list[ServerProcess] = []

    def spawn(*flags: str, folder: Path = tmp_path, **environment: str) -> ServerProcess:
        server = ServerProcess(folder, flags, environment)
        started.append(server)
        server.start()
        return server

    yield spawn
    for server in started:
        server.end()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a PostgreSQL server that all tests of this run share."""
    from tests.support.postgres import running

    with running() as url:
        yield url


@pytest.fixture
def postgres(postgres_server: str) -> Iterator[str]:
    """The SQLAlchemy URL of an empty PostgreSQL database."""
    import sqlalchemy

    name = f"test_{uuid.uuid4().hex}"
    engine = sqlalchemy.create_engine(postgres_server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
        yield postgres_server.replace("/postgres?", f"/{name}?")
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    engine.dispose()


@pytest.fixture
def kernel_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which Jupyter keeps everything to itself, away from the person's own settings."""
    for name in ("HOME", "IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        folder = tmp_path / name.lower()
        folder.mkdir()
        monkeypatch.setenv(name, str(folder))
    return tmp_path
