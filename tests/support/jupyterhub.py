"""A JupyterHub of one's own: the hub, configurable-http-proxy, dummy logins, servers of users as plain processes.

Everything listens on free ports of loopback and keeps its state in one folder:

    with Hub(folder, services=[holdfast]) as hub:
        token = hub.token_of("alice")
        page = hub.login("alice")                      # an httpx client with the cookies of a browser
        httpx.get(f"{hub.url}/services/holdfast/v1/files", headers={"Authorization": f"token {token}"})

`tests/tools.sh` installs the proxy into `tests/integration/node_modules`, and the extra `dev` brings the hub.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx

from tests.support.servers import PATIENCE, free_port, wait_until

_PROXY = Path(__file__).parents[1] / "integration" / "node_modules" / ".bin" / "configurable-http-proxy"
_FAREWELL = 15.0  # seconds
_POLL_S = 0.2
_CONFIGURATION = """
c = get_config()
c.JupyterHub.bind_url = {bind_url!r}
c.JupyterHub.hub_bind_url = {hub_url!r}
c.ConfigurableHTTPProxy.api_url = {proxy_api!r}
c.ConfigurableHTTPProxy.command = {proxy!r}
c.ConfigurableHTTPProxy.auth_token = {proxy_token!r}
c.ConfigurableHTTPProxy.pid_file = "proxy.pid"
c.JupyterHub.db_url = "sqlite:///hub.sqlite"
c.JupyterHub.cookie_secret_file = "cookie-secret"
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.Authenticator.admin_users = {admins!r}
c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = {homes!r}
c.Spawner.cmd = {single_user!r}
c.Spawner.ip = "127.0.0.1"
c.Spawner.args = {arguments!r}
c.Spawner.environment = {environment!r}
c.Spawner.env_keep = {keep!r}
c.Spawner.start_timeout = 600
c.Spawner.http_timeout = 600
c.JupyterHub.services = {services!r}
c.JupyterHub.load_roles = {roles!r}
c.JupyterHub.custom_scopes = {scopes!r}
c.JupyterHub.tornado_settings = {{"slow_spawn_timeout": 0}}
"""
_SCOPES = ["admin:users", "admin:groups", "admin:servers", "tokens", "access:servers", "access:services", "list:users"]


@dataclass
class HubService:
    """A service behind the hub, which the test starts itself on `port`, below `base_url`, with `environment`.

    `client_scopes` are those that a login in a browser passes on to the service, beside access to it.
    """

    name: str
    client_scopes: Sequence[str] = ()
    port: int = field(default_factory=free_port)
    api_token: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def base_url(self) -> str:
        """The path at which the hub's proxy serves it."""
        return f"/services/{self.name}/"

    def configuration(self) -> dict[str, Any]:
        """The service as an entry of `c.JupyterHub.services`."""
        return {
            "name": self.name,
            "url": f"http://127.0.0.1:{self.port}",
            "api_token": self.api_token,
            "oauth_no_confirm": True,
            "oauth_client_allowed_scopes": [f"access:services!service={self.name}", *self.client_scopes],
        }


class Hub:
    """A JupyterHub from `start` to `end`, or as a context manager. Every user's password is `PASSWORD`.

    `access` names the services that all users may use. `roles` and `scopes` are `load_roles` and `custom_scopes` of the
    hub. `arguments` and `environment` are those of the servers of users, whose homes are in `homes`.
    """

    PASSWORD = "a word of nobody"

    def __init__(
        self,
        folder: Path,
        services: Sequence[HubService] = (),
        *,
        access: Sequence[str] | None = None,
        admins: Sequence[str] = (),
        roles: Sequence[Mapping[str, Any]] = (),
        scopes: Mapping[str, Any] | None = None,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.homes = folder / "homes"
        self.services = {service.name: service for service in services}
        self._access = [service.name for service in services] if access is None else [*access]
        self._admins, self._roles, self._scopes = {*admins}, [*roles], dict(scopes or {})
        self._arguments = ["--allow-root", "--ServerApp.log_level=INFO", *arguments]
        self._environment = {"JUPYTERHUB_SINGLEUSER_APP": "jupyter_server.serverapp.ServerApp", **(environment or {})}
        self._api_token = secrets.token_hex(16)
        self._process: subprocess.Popen[bytes] | None = None
        self.port, self.hub_port, self._proxy_port = free_port(), free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Hub:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    @property
    def log(self) -> str:
        """Everything that the hub, its proxy and the servers of users have logged."""
        return (self.folder / "hub.log").read_text(encoding="utf-8", errors="replace")

    @property
    def pid(self) -> int:
        """The process id of the hub."""
        assert self._process is not None, "the hub is not running"
        return self._process.pid

    @property
    def proxy_pid(self) -> int:
        """The process id of configurable-http-proxy."""
        return int((self.folder / "proxy.pid").read_text())

    def environment_of(self, service: HubService) -> dict[str, str]:
        """The variables by which a service finds the hub, as the hub itself would set them."""
        return {
            "JUPYTERHUB_SERVICE_NAME": service.name,
            "JUPYTERHUB_SERVICE_PREFIX": service.base_url,
            "JUPYTERHUB_API_TOKEN": service.api_token,
            "JUPYTERHUB_API_URL": f"http://127.0.0.1:{self.hub_port}/hub/api",
            "JUPYTERHUB_BASE_URL": "/",
            "JUPYTERHUB_CLIENT_ID": f"service-{service.name}",
        }

    def start(self) -> None:
        """Start the hub and its proxy, and wait until both answer."""
        assert shutil.which("node"), "node is missing: tests/tools.sh installs it"
        assert _PROXY.exists(), "configurable-http-proxy is missing: tests/tools.sh installs it"
        self.homes.mkdir(parents=True, exist_ok=True)
        (self.folder / "jupyterhub_config.py").write_text(self._configuration())
        with (self.folder / "hub.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "jupyterhub", "-f", "jupyterhub_config.py"],
                cwd=self.folder,
                env={name: value for name, value in os.environ.items() if not name.startswith("JUPYTERHUB_")},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(self._is_up, what="the hub answers")

    def _is_up(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"the hub has ended (exit {self._process.returncode})\n{self.log}")
        try:
            return httpx.get(f"{self.url}/hub/api/", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def end(self) -> None:
        """End the hub, its proxy and the servers of users."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_FAREWELL)
        for pid in _session_of(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait(PATIENCE)

    def _configuration(self) -> str:
        access = [f"access:services!service={name}" for name in self._access]
        tests = {"name": "tests", "api_token": self._api_token}
        return _CONFIGURATION.format(
            bind_url=f"http://127.0.0.1:{self.port}/",
            hub_url=f"http://127.0.0.1:{self.hub_port}",
            proxy_api=f"http://127.0.0.1:{self._proxy_port}",
            proxy=[shutil.which("node"), str(_PROXY)],
            proxy_token=secrets.token_hex(16),
            admins=self._admins,
            homes=f"{self.homes}/{{username}}",
            single_user=[sys.executable, "-m", "jupyterhub.singleuser"],
            arguments=self._arguments,
            environment=self._environment,
            keep=["PATH", "VIRTUAL_ENV", "LANG", "SSL_CERT_FILE", "COVERAGE_PROCESS_START"],
            services=[tests, *(service.configuration() for service in self.services.values())],
            roles=[
                {"name": "tests", "services": ["tests"], "scopes": _SCOPES},
                {"name": "user", "scopes": ["self", *access]},
                *self._roles,
            ],
            scopes=self._scopes,
        )

    # -- users

    def api(self, method: str, path: str, **arguments: Any) -> Any:
        """Call the hub's REST API as an administrator; return the JSON of the answer, None without one."""
        headers = {"Authorization": f"token {self._api_token}"}
        answer = httpx.request(method, f"{self.url}/hub/api{path}", headers=headers, timeout=PATIENCE, **arguments)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def add_user(self, name: str, *, admin: bool = False) -> None:
        """Make a user, unless there is one of this name."""
        headers = {"Authorization": f"token {self._api_token}"}
        url = f"{self.url}/hub/api/users/{quote(name, safe='')}"
        answer = httpx.post(url, headers=headers, json={"admin": admin}, timeout=PATIENCE)
        assert answer.status_code in (201, 409), answer.text

    def token_of(self, name: str, *, scopes: Sequence[str] | None = None) -> str:
        """Return a new API token of a user, who is made if missing; with all that the user may, or these scopes."""
        self.add_user(name)
        body = {} if scopes is None else {"scopes": [*scopes]}
        token: str = self.api("POST", f"/users/{quote(name, safe='')}/tokens", json=body)["token"]
        return token

    def login(self, name: str) -> httpx.Client:
        """Log in as a browser does, and return the client that has the cookies. It follows redirects."""
        client = httpx.Client(base_url=self.url, follow_redirects=True, timeout=PATIENCE)
        page = client.get("/hub/login?next=%2Fhub%2Fhome")  # else it would start a server
        form = {"username": name, "password": self.PASSWORD, "_xsrf": client.cookies["_xsrf"]}
        found = re.search(r'name="_xsrf"\s+value="([^"]+)"', page.text)
        if found is not None:
            form["_xsrf"] = found[1]
        own = {"Referer": f"{self.url}/hub/login", "Origin": self.url}
        answer = client.post("/hub/login?next=%2Fhub%2Fhome", data=form, headers=own)
        assert "hub/login" not in str(answer.url), answer.text
        return client

    def start_server(self, name: str) -> str:
        """Start the server of a user, unless it runs, and wait for it; return its URL, with a slash at its end."""
        self.add_user(name)
        quoted = quote(name, safe="")
        if not self.api("GET", f"/users/{quoted}")["servers"]:
            self.api("POST", f"/users/{quoted}/server")
        wait_until(lambda: self._is_ready(quoted), what=f"the server of {name} is ready")
        return f"{self.url}/user/{quoted}/"

    def _is_ready(self, quoted: str) -> bool:
        time.sleep(_POLL_S)  # the hub has one thread, and it starts the server
        server = self.api("GET", f"/users/{quoted}?include_stopped_servers=1")["servers"].get("", {})
        return bool(server.get("ready"))

    def stop_server(self, name: str) -> None:
        """Stop the server of a user and wait until it is gone."""
        quoted = quote(name, safe="")
        self.api("DELETE", f"/users/{quoted}/server")
        wait_until(lambda: not self.api("GET", f"/users/{quoted}")["servers"], what=f"the server of {name} is gone")


def _session_of(leader: int) -> list[int]:
    """Return the processes of a session and their descendants in sessions of their own, the leader last."""
    parents: dict[int, list[int]] = {}
    members = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                parents.setdefault(int(fields[1]), []).append(int(folder.name))
                if int(fields[3]) == leader and int(folder.name) != leader:
                    members.append(int(folder.name))
    found, new = {*members}, [*members, leader]
    while new:
        children = parents.get(new.pop(), [])
        new += [pid for pid in children if pid not in found]
        found.update(children)
    return [*found, leader]


def memory_of(pid: int) -> int:
    """Return the resident memory of a process in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None, status
    return int(found[1]) << 10
