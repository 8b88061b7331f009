"""The extension of Jupyter Server: its settings, its handlers, its life."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from jupyter_server.extension.application import ExtensionApp
from traitlets import Float, List, TraitError, Unicode, default, validate

from holdfast._environment import shared_server
from holdfast._environment.extras import install_hint
from holdfast.jupyter import handlers
from holdfast.jupyter.activity import Activity
from holdfast.jupyter.backend import Backend, address_of


class HoldfastExtension(ExtensionApp):
    """Serves the user's Holdfast server at `{base_url}holdfast/`, and starts it when it is first needed."""

    name = "holdfast"
    load_other_extensions = True

    url = Unicode(
        "", help="URL of the server, such as unix:/run/holdfast.sock or http://127.0.0.1:8000; empty to start one."
    ).tag(config=True)
    files_dir = Unicode(help="Folder of its published files; by default Jupyter's root folder.").tag(config=True)
    data_dir = Unicode("", help="Folder of its journal and log; by default one in the user's state folder.").tag(
        config=True
    )
    idle_stop = Float(
        shared_server.IDLE_STOP, help="Seconds with nothing to do after which it ends by itself; 0 for never."
    ).tag(config=True)
    server_flags = List(
        Unicode(),
        ["--allow-code"],
        help="Further flags of `holdfast serve`. Whoever passes Jupyter's login can run code anyway.",
    ).tag(config=True)

    @default("files_dir")
    def _root_dir(self) -> str:
        return str(getattr(self.serverapp, "root_dir", "") or ".")

    @validate("url")
    def _check_url(self, proposal: Any) -> str:
        url = str(proposal["value"])
        try:
            if url:
                address_of(url)
        except ValueError as error:
            raise TraitError(f"HoldfastExtension.url: {error}") from error
        return url

    def initialize_handlers(self) -> None:
        """Add the handlers. Nothing is started before it is needed."""
        backend = Backend(self.url, self.files_dir, self.data_dir, self.idle_stop, self.server_flags)
        self._activity = Activity(self._report, backend.has_work)
        services = {"backend": backend, "activity": self._activity}
        self.handlers.extend(
            [
                (r"holdfast/.*", handlers.ProxyHandler, services),
                (r"holdfast", handlers.SlashHandler, services),
                (r"holdfast-info", handlers.InfoHandler, services),
            ]
        )
        missing = shared_server.missing_packages()
        if missing and not self.url:
            self.log.warning("Holdfast can't start its server, %s missing: %s", _are(missing), install_hint("jupyter"))
        handlers.ProxyHandler.is_served = True

    async def _start_jupyter_server_extension(self, serverapp: Any) -> None:
        self._activity.start()

    def current_activity(self) -> dict[str, int] | None:
        """Return what keeps Jupyter Server from ending for want of activity."""
        count = self._activity.open_requests
        return {"open_requests": count} if count else None

    async def stop_extension(self) -> None:
        """End what runs here. The server goes on."""
        await self._activity.stop()

    def _report(self) -> None:
        if self.serverapp is not None:
            self.serverapp.web_app.settings["api_last_activity"] = datetime.now(UTC)


def _are(names: list[str]) -> str:
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'}"
