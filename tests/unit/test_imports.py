"""Imports between packages go one way, so that each can be read and tested with only those that it imports."""

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

#: The packages and top-level modules that each of them may import; imports for type checkers count too.
MAY_IMPORT: dict[str, set[str]] = {
    "__init__": set(),
    "errors": set(),
    "import_path": set(),
    "signing": set(),
    "config": {"errors", "signing"},
    "observability": {"errors", "s3", "signing"},
    "credentials": {"config", "errors", "import_path", "observability", "signing"},
    "s3": {"config", "errors", "signing"},
    "transport": {"config", "errors", "signing"},
    "gateway": {"config", "credentials", "errors", "observability", "s3", "signing", "transport"},
    "proxy": {"config", "credentials", "errors", "observability", "s3", "signing"},
    "application": {"gateway"},
    "requests_auth": {"config", "signing"},
    "status": {"config", "credentials", "errors", "observability", "signing"},
    "configtest": {"config", "credentials", "errors", "proxy"},
    "cli": {
        "config",
        "configtest",
        "credentials",
        "errors",
        "gateway",
        "observability",
        "s3",
        "signing",
        "status",
        "transport",
    },
}
#: The modules that may import a library, or a module of the standard library with a cost or a risk.
MAY_USE: dict[str, set[str]] = {
    "urllib3": {
        "cli.get.apache_source",
        "transport.connection",
        "transport.network_errors",
        "transport.pool",
        "transport.tls",
    },
    "httptools": {"transport.http_parser"},
    "requests": {"requests_auth"},
    "botocore": {"credentials.aws"},
    "prometheus_client": {"observability.metrics"},
    "jinja2": {"status.page"},
    "markupsafe": {"status.page"},
    "logging": {"credentials.aws"},
    "threading": {
        "cli.server.httpd_config",
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
        "status.readiness",
        "transport.pool",
    },
    "ssl": {
        "cli.check.certificate",
        "cli.check.command",
        "cli.get.apache_source",
        "cli.server.proxy_tls",
        "cli.server.unverified_tls",
        "configtest.referenced_files",
        "transport.network_errors",
        "transport.tls",
    },
}
#: Modules that read a clock, a file or a network: signing must not use them.
IMPURE_MODULES = {"urllib3", "os", "time", "socket", "io", "pathlib", "random", "logging", "requests", "threading"}


def imports(name: str) -> Iterator[str]:
    """Return the full name of every module that a module imports, also in functions and for type checkers."""
    for node in ast.walk(ast.parse(MODULES[name].read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{name}: a relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner.removeprefix("usp_s3_wsgi.") in MODULES else node.module


def internal_imports(name: str) -> set[str]:
    """Return the imported modules of this package, without the package's name."""
    own = {full for full in imports(name) if full.partition(".")[0] == "usp_s3_wsgi"}
    names = {full.removeprefix("usp_s3_wsgi").removeprefix(".") for full in own}
    return (names & set(MODULES)) - {""}  # not _httpd, the C module that httpd loads


def top_level(name: str) -> str:
    return name.partition(".")[0]


def test_every_package_is_in_the_table() -> None:
    assert {top_level(name) for name in MODULES} == set(MAY_IMPORT)


def test_packages_do_not_import_each_other_in_a_circle() -> None:
    assert list(TopologicalSorter(MAY_IMPORT).static_order())


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    assert list(TopologicalSorter({name: internal_imports(name) for name in MODULES}).static_order())


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_one_way(name: str) -> None:
    imported = {top_level(other) for other in internal_imports(name)}
    assert imported - {"__init__", top_level(name)} <= MAY_IMPORT[top_level(name)]


@pytest.mark.parametrize("name", [name for name in MODULES if top_level(name) == "signing"])
def test_signing_is_pure(name: str) -> None:
    assert not {top_level(full) for full in imports(name)} & IMPURE_MODULES


@pytest.mark.parametrize("name", [name for name in MODULES if top_level(name) != "cli"])
def test_only_the_command_uses_libraries_of_the_command_line(name: str) -> None:
    assert not {top_level(full) for full in imports(name)} & {"argparse", "click", "rich"}


@pytest.mark.parametrize("library", MAY_USE)
def test_only_these_modules_use_a_library(library: str) -> None:
    assert {name for name in MODULES if library in {top_level(full) for full in imports(name)}} <= MAY_USE[library]


def test_the_signer_loads_no_library() -> None:
    """A child of httpd imports it at its start, in an interpreter that other applications may share."""
    program = "import sys; old = set(sys.modules); import usp_s3_wsgi.proxy.startup; print(*set(sys.modules) - old)"
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    loaded = {name.partition(".")[0] for name in printed.split()}
    assert "usp_s3_wsgi" in loaded
    assert loaded - sys.stdlib_module_names == {"usp_s3_wsgi"}
    # These take longer to import than the whole signer, and each child of a graceful restart would wait for them.
    assert not loaded & {"ssl", "http", "email", "logging", "tempfile", "traceback", "json", "html"}
