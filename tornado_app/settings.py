"""Every setting, once: its name, type, default and help. Flag `--files-dir`, environment `HOLDFAST_FILES_DIR`."""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tornado_app import private
from tornado_app.commands.command_line import CommandLine

MIB = 1 << 20
_LOCATION = re.compile(r"/(?:[A-Za-z0-9._~-]+/)+")
_BASE_URL = re.compile(r"/(?:(?!\.\.?/)[A-Za-z0-9._~-]+/)*")
_SMALLEST_LOG = 64 << 10  # a line may have half of that

SWITCH_INTERVAL = 0.0005
"""Seconds that a busy work thread may keep the loop waiting; the interpreter's own 5 ms would show in every answer."""


def _setting(default: Any, help: str, **metadata: Any) -> Any:
    show = not metadata.pop("secret", False)
    metadata = {"help": help, **metadata}
    if isinstance(default, (dict, tuple)):
        return field(default_factory=lambda: type(default)(default), metadata=metadata, repr=show)
    return field(default=default, metadata=metadata, repr=show)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The server's settings; sizes in bytes, times in seconds."""

    address: str = _setting("127.0.0.1", "address to listen on; other than loopback only with a token")
    socket: Path | None = _setting(None, "Unix socket to listen on, for this user alone, in place of address and port")
    port: int = _setting(8000, "port to listen on; 0 picks a free one")
    base_url: str = _setting("/", "path below which the server answers", metavar="/PATH/")
    files_dir: Path = _setting(Path("Files"), "directory of published files")
    store: str = _setting(
        "local", "where files are kept: local in --files-dir, memory ends with the server", choices=("local", "memory")
    )
    data_dir: Path = _setting(Path(".holdfast"), "directory of the journal and the default database")
    chunk_size: int = _setting(64 * 1024, "largest piece of GET /download/ in bytes")
    max_running: int = _setting(32, "processes that run at once")
    default_work_type: str = _setting("manifest", "what GET /{id}/process/ starts when no work type is named")
    database: dict[str, str] = _setting(
        {}, "database that work may use, NAME=URL; may be repeated", metavar="NAME=URL", secret=True
    )
    import_: tuple[str, ...] = _setting(
        (), "module with work types of your own, or its file; may be repeated", metavar="MODULE"
    )
    log_level: str = _setting("info", "least severe level to log", choices=("debug", "info", "warning", "error"))
    log_format: str = _setting("text", "format of the log", choices=("text", "json"))
    shutdown_grace: float = _setting(10.0, "seconds for running work to reach a checkpoint at shutdown")
    auth: str = _setting("", "who says who sends a request, in place of a token", choices=("jupyterhub",))
    per_user: bool = _setting(False, "keep the files and processes of users apart; with --auth")
    token: str = _setting("", "bearer token that every request must carry", secret=True)
    token_file: Path | None = _setting(None, "file that holds the token; other users must not be able to write it")
    same_user: bool = _setting(False, "admit the server's own user without the token, on this machine")
    metrics_token: str = _setting("", "one more bearer token, for /metrics alone", secret=True)
    link_life: float = _setting(604800.0, "longest life of a signed link in seconds")
    allow_host: tuple[str, ...] = _setting((), "further Host that requests may name; may be repeated", metavar="HOST")
    allow_origin: tuple[str, ...] = _setting(
        (), "origin whose pages may call this server from a browser; may be repeated", metavar="ORIGIN"
    )
    trust_proxy: bool = _setting(False, "trust X-Forwarded-* headers; only behind a proxy of your own")
    accel_redirect: str = _setting(
        "", "internal location of the nginx in front that sends files (X-Accel-Redirect)", metavar="/PATH/"
    )
    durable: bool = _setting(False, "also survive power cuts: fsync before every response that promises durability")
    allow_code: bool = _setting(False, "run code that clients send, and notebooks: every client may then run anything")
    log_size: int = _setting(16 * MIB, "bytes of log that are kept of one process; 0 is no limit")
    logs_size: int = _setting(256 * MIB, "bytes of log that are kept of all processes together; 0 is no limit")
    journal_reserve: int = _setting(
        32 * MIB, "bytes free on the journal's disk below which work is paused; 0 is no watch"
    )
    max_crashes: int = _setting(
        3, "attempts in a row that may end with the server before a process is parked; 0 is no limit"
    )
    stall_after: float = _setting(30.0, "seconds without a yield after which a running process is shown as stalled")
    kill_grace: float = _setting(5.0, "seconds between SIGTERM and SIGKILL of a killed process")
    idle_stop: float = _setting(
        0.0, "seconds without any use after which the server stops by itself; 0 is never", metavar="SECONDS"
    )
    keep_ended: float = _setting(30 * 86400.0, "seconds that ended processes are kept; 0 keeps them forever")
    max_json_body: int = _setting(1 << 20, "largest JSON body in bytes; uploads have limits of their own")
    max_upload_size: int = _setting(0, "largest upload in bytes; 0 is no limit but the disk")
    max_uploads: int = _setting(1000, "unfinished uploads at once")
    max_uploads_each: int = _setting(250, "unfinished uploads at once of one token at one address")
    upload_expiry: float = _setting(604800.0, "seconds without a new byte after which an upload is removed")
    idle_timeout: float = _setting(60.0, "seconds without a byte after which an upload's connection is closed")
    send_timeout: float = _setting(600.0, "seconds without a byte read after which a download's connection is closed")
    reserve_space: int = _setting(64 * MIB, "bytes of the disk that uploads and work leave free")
    check_uploads: bool = _setting(True, "compute the block digests (BLAKE3) of uploads as they arrive")
    digest_uploads: bool = _setting(True, "make the SHA-256 of files after their publication")
    journal_interval: float = _setting(0.2, "seconds between durable checkpoints of one process; 0 keeps every one")

    max_field_size: int = _setting(64 * MIB, "largest field of import-csv and export-csv in bytes")
    command: dict[str, str] = _setting(
        {}, "program that command may run, with its arguments; may be repeated", metavar="NAME=PROGRAM..."
    )
    fetch_allow: tuple[str, ...] = _setting((), "beginning of URLs that fetch may get; may be repeated", metavar="URL")
    fetch_private: bool = _setting(False, "let fetch connect to addresses that are not public")

    @property
    def auth_token(self) -> str:
        """The token in force, or "" when there is none; without the blanks around it, which no header keeps."""
        if self.token_file is not None:
            return self.token_file.read_text(encoding="utf-8").strip()
        return self.token.strip()

    @property
    def databases(self) -> dict[str, str]:
        """Every database by name, with `default` filled in."""
        return {"default": f"sqlite:///{self.data_dir.resolve() / 'default.sqlite'}", **self.database}


class SettingsError(ValueError):
    """Invalid setting; the message names it and what to set instead."""


def flag(name: str) -> str:
    """The command-line flag of a setting's field name."""
    return "--" + name.rstrip("_").replace("_", "-")


def variable(name: str) -> str:
    """The environment variable of a setting's field name."""
    return "HOLDFAST_" + name.rstrip("_").upper()


def secret_variables() -> list[str]:
    """Return the environment variables of the settings that are secret."""
    return [variable(f.name) for f in dataclasses.fields(Settings) if not f.repr]


def read(argv: Sequence[str], environ: Mapping[str, str] = os.environ) -> Settings:
    """Settings from the command line, then the environment, then the defaults.

    Raises:
        SettingsError: a value that can't be used; the message names it and what would be right.
    """
    parser = argparse.ArgumentParser(
        prog="holdfast serve", description="Holdfast: serve interruptible processes and transfers."
    )
    add_flags(parser)
    return collect(parse(parser, argv), environ)


def parse(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """Parse flags. An unknown one is reported without its value, which may be a token."""
    found, unknown = parser.parse_known_args(argv)
    if unknown:
        parser.error(f"unrecognized arguments: {_flags_of(unknown)}")
    return found


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Let a command line have a flag for every setting."""
    for f in dataclasses.fields(Settings):
        _add_flag(parser, f)


def collect(namespace: argparse.Namespace, environ: Mapping[str, str]) -> Settings:
    """Settings from parsed flags, then the environment, then the defaults. Raises `SettingsError`."""
    given = {name: value for name, value in vars(namespace).items() if value is not None}
    values: dict[str, Any] = {}
    for f in dataclasses.fields(Settings):
        if f.name in given:
            values[f.name] = _convert(f, given[f.name], flag(f.name))
        elif environ.get(variable(f.name)):
            text = environ[variable(f.name)]
            listed = _kind(f) in ("tuple", "dict")
            values[f.name] = _convert(f, text.split(",") if listed else text, variable(f.name))
    if "base_url" in values:
        values["base_url"] = _with_slashes(values["base_url"])
    settings = Settings(**values)
    check(settings)
    return settings


def _with_slashes(path: str) -> str:
    """Return a path that begins and ends with a slash."""
    path = path if path.startswith("/") else f"/{path}"
    return path if path.endswith("/") else f"{path}/"


def _flags_of(arguments: Sequence[str]) -> str:
    """Arguments without what may be a value, such as the token behind a flag that is misspelt."""
    flags = [argument.partition("=")[0] for argument in arguments if argument.startswith("-")]
    others = len(arguments) - len(flags)
    return " ".join(flags) + (f" and {others} that belong to no flag" if others else "")


def check(settings: Settings) -> None:
    """Refuse settings that can't work or aren't safe together. Raises `SettingsError`."""
    positive = (
        "link_life",
        *("chunk_size", "max_json_body", "max_running", "shutdown_grace", "stall_after", "kill_grace"),
        *("max_uploads", "max_uploads_each", "max_field_size", "upload_expiry", "idle_timeout", "send_timeout"),
    )
    for name in positive:
        if getattr(settings, name) <= 0:
            raise SettingsError(f"{flag(name)} must be more than 0, not {getattr(settings, name)}")
    if settings.chunk_size < 4:
        raise SettingsError("--chunk-size must be at least 4: a UTF-8 character can have four bytes")
    if not _BASE_URL.fullmatch(settings.base_url):
        raise SettingsError(
            f"--base-url must be a path of plain segments such as /holdfast/, not {settings.base_url[:80]!r}"
        )
    if not 0 <= settings.port <= 65535:
        raise SettingsError(f"--port must be from 0 to 65535, not {settings.port}")
    for name in ("idle_stop", "journal_interval", "journal_reserve", "max_crashes", "max_upload_size", "reserve_space"):
        if getattr(settings, name) < 0:
            raise SettingsError(f"{flag(name)} must be 0 or more, not {getattr(settings, name)}")
    for name in ("log_size", "logs_size"):
        if 0 < getattr(settings, name) < _SMALLEST_LOG or getattr(settings, name) < 0:
            raise SettingsError(
                f"{flag(name)} must be {_SMALLEST_LOG} bytes or more, or 0 for no limit, not {getattr(settings, name)}"
            )
    _check_work(settings)
    _check_callers(settings)
    token = _checked_token(settings)
    _check_auth(settings)
    admits_by_socket = settings.socket is not None and settings.same_user
    is_named = bool(settings.auth)
    if settings.trust_proxy and not (admits_by_socket or is_named) and (not token or settings.same_user):
        raise SettingsError(
            "--trust-proxy needs a token, because every client of the proxy looks like the user who runs it: "
            "give --token-file (or HOLDFAST_TOKEN) and no --same-user. A proxy of your own that checks who its clients "
            "are may have a --socket with --same-user"
        )
    if settings.accel_redirect:
        if not _LOCATION.fullmatch(settings.accel_redirect):
            raise SettingsError(
                f"--accel-redirect must be a location such as /published/, not {settings.accel_redirect[:80]!r}"
            )
        if not settings.trust_proxy or settings.store != "local":
            raise SettingsError("--accel-redirect needs --trust-proxy, and files in --files-dir that nginx can read")
    if not (token or is_named) and settings.socket is None and not is_loopback(settings.address):
        raise SettingsError(
            f"without a token the server listens on loopback only, not on {settings.address}: "
            "give --token (or HOLDFAST_TOKEN, or --token-file), or --address 127.0.0.1"
        )


def _check_auth(settings: Settings) -> None:
    """Refuse two ways of admission at once, and users without names."""
    if settings.auth and (settings.token or settings.token_file is not None or settings.same_user):
        raise SettingsError(
            f"--auth {settings.auth} admits whom the hub names: leave out --token, --token-file and --same-user"
        )
    if settings.per_user and not settings.auth:
        raise SettingsError("--per-user needs --auth jupyterhub, because without it nobody has a name")


def _checked_token(settings: Settings) -> str:
    """The token, if it is one that a request can carry; "" without one."""
    if settings.token_file is not None and settings.token:
        raise SettingsError("give --token or --token-file, not both")
    where = "--token" if settings.token_file is None else f"--token-file {settings.token_file}"
    try:
        if settings.token_file is not None:
            private.check_unshared(settings.token_file)
        token = settings.auth_token
    except OSError as error:
        raise SettingsError(f"{where} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{where} is not UTF-8: put a token into it as text") from error
    except private.NotPrivateError as error:
        raise SettingsError(f"--token-file {error}") from error
    if not token and (settings.token or settings.token_file is not None):
        raise SettingsError(f"{where} is empty: put a token into it")
    for name, text in ((where, token), ("--metrics-token", settings.metrics_token.strip())):
        if not text.isprintable():
            raise SettingsError(f"{name} must be one line of printable characters")
    return token


def _check_callers(settings: Settings) -> None:
    """Hosts and origins that no request could ever name would allow nobody."""
    for host in settings.allow_host:
        if not _is_address(host.strip("[]")) and (without_port := _without_port(host)):
            raise SettingsError(f"--allow-host {host}: leave out the port, as in --allow-host {without_port}")
        if not _is_address(host.strip("[]")) and not set(host).isdisjoint(":/@?#[]* "):
            raise SettingsError(f"--allow-host {host}: give a name or an address alone, such as files.example")
    for origin in settings.allow_origin:
        if origin != "null" and not _is_origin(origin):
            raise SettingsError(
                f"--allow-origin {origin}: write it as browsers send it, such as https://notebooks.example "
                "(no path, no capitals, no default port)"
            )


def _check_work(settings: Settings) -> None:
    """Check what the work types that come with the server may do."""
    for name, text in settings.command.items():
        try:
            CommandLine(text)
        except ValueError as error:
            raise SettingsError(f"--command {name}={text}: {error}") from error
    for prefix in settings.fetch_allow:
        try:
            parts = urlsplit(prefix)
            fits = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            fits = False
        if not fits or "@" in parts.netloc or "?" in prefix or "#" in prefix:
            raise SettingsError(
                f"--fetch-allow {prefix}: give the beginning of a URL, such as https://data.example/sets/"
            )


def is_loopback(address: str) -> bool:
    """True for addresses that only this machine can reach."""
    return address == "localhost" or (_is_address(address) and ip_address(address).is_loopback)


def _without_port(host: str) -> str:
    """Return the name or address of `HOST:PORT`; "" for anything else."""
    name, _, port = host.rpartition(":")
    fits = name and port.isascii() and port.isdigit()
    return name if fits and (_is_address(name.strip("[]")) or set(name).isdisjoint(":/@?#[]* ")) else ""


def _is_origin(text: str) -> bool:
    """Return whether a browser would write an origin so (HTML standard, section 7.1.1: serialization)."""
    try:
        parts = urlsplit(text)
        default = (parts.scheme, parts.port) in (("http", 80), ("https", 443))
    except ValueError:
        return False
    plain = f"{parts.scheme}://{parts.netloc}".lower()
    return bool(parts.scheme and parts.hostname) and text == plain and set("@* ").isdisjoint(text) and not default


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _kind(f: dataclasses.Field[Any]) -> str:
    return str(f.type).split("[")[0].split(" ")[0]


def _add_flag(parser: argparse.ArgumentParser, f: dataclasses.Field[Any]) -> None:
    kind = _kind(f)
    options: dict[str, Any] = {"dest": f.name, "default": None, "help": _help(f)}
    if kind == "bool":
        options["action"] = argparse.BooleanOptionalAction
    else:
        options["metavar"] = f.metadata.get("metavar") or f.name.rstrip("_").upper()
        if kind in ("tuple", "dict"):
            options["action"] = "append"
    parser.add_argument(flag(f.name), **options)


def _help(f: dataclasses.Field[Any]) -> str:
    text = str(f.metadata["help"])
    if "choices" in f.metadata:
        text += f" ({', '.join(f.metadata['choices'])})"
    if f.default not in (dataclasses.MISSING, None, "", False):
        text += f" [{f.default}]"
    return text.replace("%", "%%")


def _convert(f: dataclasses.Field[Any], value: Any, where: str) -> Any:
    kind = _kind(f)
    try:
        if kind == "bool":
            return value if isinstance(value, bool) else _boolean(value)
        if kind == "dict":
            return dict(_pair(item) for item in value if item)
        if kind == "tuple":
            return tuple(item.strip() for item in value if item.strip())
        value = _READERS[kind](value)
    except ValueError as error:
        kinds = {"int": "a whole number", "float": "a number of seconds", "dict": f.metadata.get("metavar")}
        wanted = kinds.get(kind) or str(error)
        given = f", not {value!r}" if f.repr else ""  # a secret is not repeated
        raise SettingsError(f"{where} must be {wanted}{given}") from (error if f.repr else None)
    if "choices" in f.metadata and value not in f.metadata["choices"]:
        raise SettingsError(f"{where} must be one of {', '.join(f.metadata['choices'])}, not {value!r}")
    return value


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number of seconds")
    return number


def _boolean(text: str) -> bool:
    truth = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if text.lower() not in truth:
        raise ValueError("true or false")
    return truth[text.lower()]


_READERS: dict[str, Callable[[str], Any]] = {"int": int, "float": _finite, "Path": Path, "str": str}


def _pair(text: str) -> tuple[str, str]:
    name, sep, value = text.partition("=")
    if not sep or not name.strip() or not value.strip():
        raise ValueError
    return name.strip(), value.strip()
