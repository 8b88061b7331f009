"""Starts and stops the server: `python -m tornado_app --port 8000`."""

from __future__ import annotations

import os
import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    # Before any other import: a file that was uploaded into the working directory must not become a module.
    os.execv(sys.executable, [sys.orig_argv[0], "-P", *sys.orig_argv[1:]])  # noqa: S606 - a list, no shell

import asyncio
import contextlib
import gc
import logging
import resource
import signal
from collections.abc import Callable, Sequence

from holdfast._environment.extras import install_hint
from tornado_app import logs, settings

try:
    from tornado_app.app import App
except ModuleNotFoundError as error:
    if __name__ != "__main__" or (error.name or "").startswith(("tornado_app", "holdfast")):
        raise
    sys.exit(f"holdfast: the server needs {error.name}: {install_hint('server')}")

log = logging.getLogger("holdfast.server")

_DESCRIPTORS = 65536
"""Files and connections that may be open at once, if the system allows it."""


async def serve(config: settings.Settings) -> None:
    """Serve until SIGTERM or SIGINT; a second SIGINT ends at once."""
    app = await App.open(config)
    # What is loaded now stays, so that the collector need not scan it each time.
    gc.collect()
    gc.freeze()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_interrupt() -> None:
        if stop.is_set():  # Ctrl-C twice: end at once
            os._exit(130)
        stop.set()

    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, on_interrupt)
    try:
        app.listen()
        print(f"Holdfast serving on {app.url}", flush=True)  # noqa: T201 - the one line of stdout
        waits = [asyncio.ensure_future(stop.wait()), asyncio.ensure_future(app.wait_idle())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for each in waits:
            each.cancel()
        if not stop.is_set():
            log.info("nobody has used the server for %g seconds (--idle-stop): it stops", config.idle_stop)
    finally:
        await app.close()


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's event loop if it is installed: an iteration costs a fraction of asyncio's."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def raise_limit() -> None:
    """Raise the limit of descriptors to the hard limit: shells set 1,024, and a download takes three."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(ValueError, OSError):  # macOS has a lower limit than it reports
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status: 0 after a clean stop, 2 for invalid settings."""
    try:
        config = settings.read(sys.argv[1:] if argv is None else argv)
        secrets = (config.auth_token, config.metrics_token, os.environ.get("JUPYTERHUB_API_TOKEN", ""))
        logs.configure(config.log_level, config.log_format, secrets)
        sys.setswitchinterval(settings.SWITCH_INTERVAL)
        raise_limit()
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(serve(config))
    except settings.SettingsError as error:
        print(f"holdfast: {error}", file=sys.stderr)  # noqa: T201 - for the person who started it
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
