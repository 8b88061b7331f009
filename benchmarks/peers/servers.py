"""The servers that stand beside this one in `benchmarks/transfers.py`, each ready to start on a port of its own."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

from benchmarks.harness import MissingError, Server, free_port, tool

HERE = Path(__file__).resolve().parent

_NGINX = """
daemon off;
user {user};
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 100000000;
    default_type application/octet-stream;
    client_max_body_size 0;
    client_body_temp_path {folder}/nginx-body;
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        root {folder};
        location /put/ {{ dav_methods PUT; create_full_put_path on; }}
    }}
}}
"""


def nginx(folder: Path) -> Server:
    """nginx with one worker and sendfile: `folder` at /, PUT below /put/."""
    import getpass

    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(_NGINX.format(folder=folder, port=port, user=getpass.getuser()), encoding="utf-8")
    return Server("nginx", [tool("nginx"), "-c", str(config), "-p", str(folder)], port, folder)


def static(folder: Path) -> Server:
    """Tornado's StaticFileHandler: `folder` at /files/."""
    port = free_port()
    return Server("StaticFileHandler", _script("static_server.py", port, folder), port, folder)


def floor(folder: Path) -> Server:
    """A blocking loop of recv_into and write: takes any request and stores its body."""
    port = free_port()
    return Server("floor", _script("floor_server.py", port, folder / "floor.bin"), port, folder)


def tus_node(folder: Path) -> Server:
    """@tus/server with @tus/file-store: uploads at /files."""
    if not (HERE / "node_modules" / "@tus" / "server").is_dir():
        command = [tool("npm"), "install", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"]
        if subprocess.run(command, cwd=HERE, check=False).returncode != 0:
            raise MissingError("@tus/server could not be installed by npm in benchmarks/peers")
    port = free_port()
    (folder / "tus-node").mkdir()
    command = [tool("node", "nodejs"), str(HERE / "tus_server.mjs"), str(port), str(folder / "tus-node")]
    return Server("@tus/server", command, port, folder)


def tuspyserver(folder: Path) -> Server:
    """tuspyserver on uvicorn with uvloop and httptools: uploads at /files."""
    for module in ("tuspyserver", "uvicorn", "uvloop", "httptools"):
        if importlib.util.find_spec(module) is None:
            raise MissingError(f"{module} is missing: pip install -e '.[bench]'")
    port = free_port()
    (folder / "tuspyserver").mkdir()
    flags = ["--host", "127.0.0.1", "--port", str(port), "--loop", "uvloop", "--http", "httptools"]
    command = [sys.executable, "-m", "uvicorn", "tuspyserver_app:app", *flags, "--no-access-log"]
    return Server("tuspyserver", command, port, folder, {"PEER_FOLDER": str(folder / "tuspyserver")}, cwd=HERE)


def copyparty(folder: Path) -> Server:
    """copyparty with one process: `folder`/copyparty at /, read and written; `?ck=no` turns its check off."""
    if importlib.util.find_spec("copyparty") is None:
        raise MissingError("copyparty is missing: pip install -e '.[bench]'")
    port = free_port()
    served = folder / "copyparty"
    served.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "copyparty", "-q", "-j1", "--wram", "--no-crt", "-i", "127.0.0.1", "-p", str(port)]
    # Its configuration belongs below this folder, too.
    environment = {"XDG_CONFIG_HOME": str(folder / "copyparty-config")}
    return Server("copyparty", [*command, "-v", f"{served}::A"], port, folder, environment)


def _script(name: str, *arguments: object) -> list[str]:
    return [sys.executable, str(HERE / name), *map(str, arguments)]
