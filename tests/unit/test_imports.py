"""Imports go one way between the packages, so that each can be read and tested with only what is below it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import usp_s3_wsgi

PACKAGE = Path(usp_s3_wsgi.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}

#: What each package, or module of the top level, may import of the others, type checkers' imports included.
MAY_IMPORT: dict[str, set[str]] = {
    "__init__": set(),
    "errors": set(),
    "import_path": set(),
    "signing": set(),
    "config": {"errors", "signing"},
    "observability": {"errors"},
    "credentials": {"config", "errors", "import_path", "observability", "signing"},
    "s3": {"config", "errors", "signing"},
    "transport": {"config", "errors", "signing"},
    "gateway": {"config", "credentials", "errors", "observability", "s3", "signing", "transport"},
    "proxy": {"config", "credentials", "errors", "observability", "s3", "signing"},
    "application": {"gateway"},
    "requests_auth": {"config", "signing"},
    "configtest": {"config", "credentials", "errors", "proxy"},
    "cli": {"config", "configtest"},
}
#: The modules that may import a library, or a part of the standard library that has a price or a risk.
MAY_USE: dict[str, set[str]] = {
    "urllib3": {"transport.connection", "transport.network_errors", "transport.tls"},
    "requests": {"requests_auth"},
    "botocore": {"credentials.aws"},
    "logging": {"credentials.aws"},
    "threading": {
        "credentials.aws",
        "credentials.key_files",
        "credentials.refresher",
        "credentials.resolver",
        "gateway.client_connection",
        "import_path",
        "observability.rate_limiter",
        "proxy.clock_correction",
        "s3.endpoint_state",
        "transport.connection",
        "transport.happy_eyeballs",
        "transport.pool",
    },
    "ssl": {"configtest.referenced_files", "transport.network_errors", "transport.tls"},
    "argparse": {f"cli.{name}" for name in ("apache_config", "convert.command", "main")},
}
#: Signing is pure: nothing that reads a clock, a file or a network.
IMPURE = {"urllib3", "os", "time", "socket", "io", "pathlib", "random", "logging", "requests", "threading"}


def imports(name: str) -> Iterator[str]:
    """Every module that this one imports, in full: also within functions, and for type checkers only."""
    for node in ast.walk(ast.parse(MODULES[name].read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{name}: a relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner.removeprefix("usp_s3_wsgi.") in MODULES else node.module


def inside(name: str) -> set[str]:
    """The package's own modules among them."""
    ours = {full for full in imports(name) if full.partition(".")[0] == "usp_s3_wsgi"}
    names = {full.removeprefix("usp_s3_wsgi").removeprefix(".") for full in ours}
    return (names & set(MODULES)) - {""}  # not _httpd, the C module that httpd loads


def top(name: str) -> str:
    return name.partition(".")[0]


def test_every_package_has_its_place() -> None:
    assert {top(name) for name in MODULES} == set(MAY_IMPORT)


def test_the_packages_have_an_order() -> None:
    assert list(TopologicalSorter(MAY_IMPORT).static_order())


def test_the_modules_have_an_order() -> None:
    assert list(TopologicalSorter({name: inside(name) for name in MODULES}).static_order())


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_one_way(name: str) -> None:
    assert {top(other) for other in inside(name)} - {"__init__", top(name)} <= MAY_IMPORT[top(name)]


@pytest.mark.parametrize("name", [name for name in MODULES if top(name) == "signing"])
def test_signing_is_pure(name: str) -> None:
    assert not {top(full) for full in imports(name)} & IMPURE


@pytest.mark.parametrize("library", MAY_USE)
def test_only_these_modules_use_a_library(library: str) -> None:
    assert {name for name in MODULES if library in {top(full) for full in imports(name)}} <= MAY_USE[library]


def test_the_signer_loads_no_library() -> None:
    """It is loaded when a child of httpd starts, into the interpreter that it may share with other applications."""
    program = "import sys; old = set(sys.modules); import usp_s3_wsgi.proxy.startup; print(*set(sys.modules) - old)"
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    tops = {name.partition(".")[0] for name in printed.split()}
    assert "usp_s3_wsgi" in tops
    assert tops - sys.stdlib_module_names == {"usp_s3_wsgi"}
    # Each child of a graceful restart waits for these before it answers, and they take longer than the whole signer.
    assert not tops & {"ssl", "http", "email", "logging", "tempfile", "traceback"}
