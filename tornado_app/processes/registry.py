"""The work types that this server can run, by name, and the validation of their parameters."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import re
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any, TypeVar

import msgspec
from msgspec import inspect as types

from holdfast.wire import WorkTypeInfo
from holdfast.work import WorkError, WorkType
from tornado_app import imports, problems
from tornado_app.processes.executors import tracebacks
from tornado_app.processes.sent_code import code
from tornado_app.settings import Settings, SettingsError

ENTRY_POINTS = "holdfast.work_types"
BUILT_IN = (
    "tornado_app.work_types.manifest",
    "tornado_app.work_types.import_csv",
    "tornado_app.work_types.export_csv",
    "tornado_app.work_types.fetch",
    "tornado_app.work_types.command",
)
CODE_OF_CLIENTS = {code.name: code.function.__module__, "notebook": "tornado_app.work_types.notebook"}
"""Work types that run code of clients, by name with their module; they need `--allow-code`."""

EXTRAS = {"notebook": (("nbclient", "nbformat", "jupyter_client"), "notebook-work")}
"""Work types whose packages are an extra: by name the packages, and the extra."""

T = TypeVar("T")

_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")


class Registry:
    """Work types by name."""

    def __init__(self, work_types: Iterable[WorkType] = ()) -> None:
        self._by_name: dict[str, WorkType] = {}
        self._modules: dict[str, str] = {}
        self._absent: dict[str, str] = {}
        for work in work_types:
            self.add(work, work.function.__module__)

    @classmethod
    def load(cls, settings: Settings) -> Registry:
        """Load the work types of the server, of installed packages, and of the modules that `--import` names."""
        registry = cls()
        for name in BUILT_IN:
            registry.add_module(importlib.import_module(name))
        for name, module_name in CODE_OF_CLIENTS.items():
            needed, extra = EXTRAS.get(name, ((), ""))
            if not settings.allow_code:
                registry._absent[name] = "runs code of clients: start the server with --allow-code"
            elif not all(map(importlib.util.find_spec, needed)):
                registry._absent[name] = (
                    f"needs packages that the server does not have: install Holdfast there with the extra {extra}"
                )
            else:
                registry.add_module(importlib.import_module(module_name))
        for point in entry_points(group=ENTRY_POINTS):
            where = f"entry point {point.name} = {point.value}"
            found = _loaded(where, point.load)
            if isinstance(found, ModuleType):
                registry.add_module(found)
            elif isinstance(found, WorkType):
                registry.add(found, point.module)
            else:
                raise SettingsError(f"{where}: it is a {type(found).__name__}, not declared with @work_type")
        for name in settings.import_:
            module = _loaded(f"--import {name}", functools.partial(_import, name, settings))
            if not registry.add_module(module):
                raise SettingsError(f"--import {name}: the module has no function declared with @work_type")
        default, names = settings.default_work_type, ", ".join(registry.names)
        if default not in registry._by_name:
            raise SettingsError(f"--default-work-type {default}: no such work type; there are {names}")
        return registry

    def add_module(self, module: ModuleType) -> int:
        """Add every work type that the module defines, and return their number."""
        found = [value for value in vars(module).values() if isinstance(value, WorkType)]
        for work in found:
            self.add(work, module.__name__)
        return len(found)

    def add(self, work: WorkType, module: str) -> None:
        """Add a work type that `module` defines.

        Raises `SettingsError` for a name that is invalid or taken, and for parameters without a JSON Schema.
        """
        if not _NAME.fullmatch(work.name):
            raise SettingsError(f"work type {work.name!r}: a name is 1 to 128 of letters, digits, '.', '_', '-'")
        try:
            msgspec.structs.fields(work.params)
            describe(work)
        except TypeError as error:
            raise SettingsError(f"work type {work.name!r}: its parameters must be a msgspec.Struct: {error}") from error
        if self._by_name.setdefault(work.name, work) is not work:
            raise SettingsError(f"two work types are named {work.name!r}. Rename one")
        self._modules.setdefault(work.name, module)

    def module_of(self, name: str) -> str:
        """Return the name of the module from which another process imports the work type."""
        return self._modules[name]

    @property
    def names(self) -> list[str]:
        """Every name, sorted."""
        return sorted(self._by_name)

    def get(self, name: str) -> WorkType | None:
        """Return the work type of that name, or None."""
        return self._by_name.get(name)

    def why_absent(self, name: str) -> str:
        """Return the reason why a work type is not there, as a sentence."""
        if name in self._absent:
            return f"the work type {name!r} {self._absent[name]}"
        return f"this server has no work type {name!r} any more: start it with --import its module"

    def find(self, name: str) -> WorkType:
        """Return the work type of that name. Raises UNKNOWN_WORK_TYPE with the valid names."""
        work = self._by_name.get(name)
        if work is None and name in self._absent:
            raise problems.UNKNOWN_WORK_TYPE(self.why_absent(name), work_types=self.names)
        if work is None:
            raise problems.UNKNOWN_WORK_TYPE(
                f"there is no work type {name!r}; there are {', '.join(self.names)}", work_types=self.names
            )
        return work

    def infos(self) -> list[WorkTypeInfo]:
        """Return every work type as it is on the wire."""
        return [describe(self._by_name[name]) for name in self.names]


def _import(name: str, settings: Settings) -> ModuleType:
    return importlib.import_module(imports.make_importable(name, settings.files_dir))


def _loaded(where: str, load: Callable[[], T]) -> T:
    """Return the result of `load`. Raises `SettingsError`, which names the place, for any error of foreign code."""
    try:
        return load()
    except Exception as error:
        place = tracebacks.location_of(error)
        at = f" (at {place})" if place else ""
        raise SettingsError(f"{where}: {type(error).__name__}: {error}{at}") from error


@functools.lru_cache(maxsize=256)
def describe(work: WorkType) -> WorkTypeInfo:
    """Return a work type as it crosses the wire. Its JSON Schema costs most of a request, and never changes."""
    return WorkTypeInfo(
        name=work.name,
        doc=work.doc,
        params_schema=msgspec.json.schema(work.params),
        place=work.place,
        retries=work.retries,
        limit=work.limit,
        can_roll_back=work.rollback_function is not None,
    )


def validate(
    work: WorkType, params: Mapping[str, Any], setting: Callable[[str], Any], *, strict: bool = True
) -> dict[str, Any]:
    """Return the parameters, validated and with defaults, as JSON-like values.

    `setting` reads a server setting for the work type's own check. `strict=False` is for query strings, whose values
    are text.

    Raises:
        ProblemError: BAD_PARAMETERS, which names the field and what it takes.
    """
    known, takes = _parameters(work)
    for name in params:
        if name not in known:
            raise problems.BAD_PARAMETERS(f"{work.name} has no parameter {name!r}; it takes {takes}", field=name)
    for name, required in known.items():
        if required and name not in params:
            raise problems.BAD_PARAMETERS(f"{work.name} needs the parameter {name!r}; it takes {takes}", field=name)
    try:
        value = msgspec.convert(dict(params), work.params, strict=strict)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$.")
        field = path.rstrip("`") or None
        message += _choice(work, field)
        where = f"parameter {field!r} of {work.name}" if field else f"the parameters of {work.name}"
        raise problems.BAD_PARAMETERS(f"{where}: {message}", field=field) from None
    if work.check_function is not None:
        try:
            work.check_function(value, setting)
        except WorkError as error:
            raise problems.BAD_PARAMETERS(f"{work.name}: {error}") from None
    builtins: dict[str, Any] = msgspec.to_builtins(value)
    return builtins


def completed(work: WorkType, params: dict[str, Any]) -> dict[str, Any] | None:
    """Return parameters that an earlier version validated, with today's defaults; None when they no longer fit."""
    try:
        value = msgspec.convert(params, work.params)
    except msgspec.ValidationError:
        return None
    builtins: dict[str, Any] = msgspec.to_builtins(value)
    return builtins


@functools.lru_cache(maxsize=256)
def _parameters(work: WorkType) -> tuple[dict[str, bool], str]:
    """Return the parameters with whether each is required, and their list in words."""
    known = {field.encode_name: field.required for field in msgspec.structs.fields(work.params)}
    needed = ", ".join(name for name, required in known.items() if required)
    optional = ", ".join(name for name, required in known.items() if not required)
    return known, " and ".join(filter(None, [needed, optional and f"optionally {optional}"])) or "no parameters"


def _choice(work: WorkType, name: str | None) -> str:
    """Return the values that a parameter takes, in words, when they are few."""
    for field in msgspec.structs.fields(work.params):
        if field.encode_name == name and (values := _values(types.type_info(field.type))):
            return f". It is one of {', '.join(map(str, values))}"
    return ""


def _values(info: types.Type) -> list[Any]:
    match info:
        case types.EnumType(cls=cls):
            return [member.value for member in cls]
        case types.LiteralType(values=values):
            return list(values)
        case types.Metadata(type=inner):
            return _values(inner)
        case types.UnionType(types=kinds):
            return [value for kind in kinds for value in _values(kind)]
    return []
