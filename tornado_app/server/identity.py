"""Identity of a server: a key by which it proves itself, and the note by which programs of its user find it."""

from __future__ import annotations

import logging
import os
import time

from holdfast._environment import known_servers
from holdfast._environment.identity import proof
from holdfast._environment.known_servers import RunningServer, ServerNote
from holdfast.wire import Identity
from tornado_app.server.access import Access
from tornado_app.settings import Settings

log = logging.getLogger("holdfast.server")


class ServerIdentity:
    """Key of a data directory, and id of the running server on it."""

    def __init__(self, key: str, instance: str) -> None:
        """`key` is the secret in `KEY_FILE`, which outlives a restart; `instance` does not."""
        self.instance = instance
        self._key = key

    def prove(self, nonce: str) -> Identity:
        """Return the proof for a nonce."""
        return Identity(self.instance, proof(self._key, nonce))


def write_note(settings: Settings, access: Access, instance: str, url: str) -> ServerNote | None:
    """Write the note of a server that listens. Logs a warning if that fails, and returns None."""
    server = RunningServer(
        url=url,
        base_url=settings.base_url,
        pid=os.getpid(),
        host=known_servers.host_name(),
        boot=known_servers.boot_id(),
        started=time.time(),
        data_dir=str(settings.data_dir.resolve()),
        files_dir=str(settings.files_dir.resolve()) if settings.store == "local" else "",
        instance=instance,
        kind=known_servers.kind_of_this_process(),
        token=access.token_for_the_user if settings.socket is None else "",
        needs_token=not access.admits_the_user,
    )
    try:
        return ServerNote(server)
    except OSError as error:  # a user without a home
        lost = ", and need the token in its data directory" if server.token else ""
        log.warning("programs of this user can't find this server by themselves%s: %s", lost, error)
        return None
